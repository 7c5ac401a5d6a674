/** The cards of the pack's workflows in the order of their numbers: the host lists them as their folder happens to. */

import { api } from "../../scripts/api.js";

const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));
const ask = api.getWorkflowTemplates?.bind(api);

if (ask) {
  api.getWorkflowTemplates = async () => {
    const found = await ask();
    found?.[PACK]?.sort?.();
    return found;
  };
}
