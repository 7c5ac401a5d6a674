/**
 * Which nodes an event is about: the node behind an execution id ("5:2" is node 2 inside subgraph node 5), and
 * the Prompt Timeline that feeds a sampler. Front ends differ in whether ids are numbers, so all are compared as text.
 */

/** The node of the open graph with this execution id, or null. */
export function findNode(root, executionId) {
  let [graph, node] = [root, null];
  for (const id of String(executionId).split(":")) {
    const nodes = graph?.nodes ?? graph?._nodes ?? [];
    node = nodes.find((one) => String(one.id) === id) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/**
 * The Prompt Timeline above a sampler in a queued prompt (API format): `{id, text, exact}`, or null. `exact` is false
 * when a Shot Cut in between gives segments other numbers; `text` is null when it came from another node.
 */
export function timelineOf(prompt, executionId) {
  let [id, exact] = [String(executionId), true];
  for (let hops = 0; hops < 100; hops++) {
    const { class_type: type, inputs } = prompt?.[id] ?? {};
    if (type === "GF_PromptTimeline") {
      const { timeline } = inputs;
      return { id, exact, text: typeof timeline === "string" ? timeline : null };
    }
    if (type === "GF_ShotCut") exact = false;
    const [from] = [inputs?.timeline, ...Object.values(inputs ?? {})].filter(Array.isArray); // else a node that hands on
    if (!from) return null;
    id = String(from[0]);
  }
  return null;
}
