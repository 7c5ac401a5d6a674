/**
 * The front end puts "randomize" under every new seed. A film whose seed changes with each Run keeps no shot, and -1 (take
 * it from the film) would be gone after the first one: ours begin with "fixed". Saved graphs bring their own choice.
 */

import { app } from "../../scripts/app.js";

const WITH_SEED = ["GF_StreamSampler", "GF_ShotCut"];

app.registerExtension({
  name: "grounded.forcing.seeds",
  nodeCreated(node) {
    if (!WITH_SEED.includes(node.comfyClass)) return;
    const control = node.widgets?.find(({ name }) => name === "control_after_generate");
    if (control) control.value = "fixed";
  },
});
