/**
 * Which nodes an event is about: the node behind an execution id ("5:2" is node 2 inside subgraph node 5), and
 * the Prompt Timeline that feeds a sampler. Front ends differ in whether ids are numbers, so all are compared as text.
 */

const INSIDE_IN = "-10"; // the box of a subgraph's inputs

/** `{node, parents}` for an execution id, `parents` from the outermost subgraph node inwards; null if unknown. */
export function findNode(root, executionId) {
  const ids = String(executionId).split(":");
  const parents = [];
  let graph = root;
  for (const [depth, id] of ids.entries()) {
    const node = nodesOf(graph).find((one) => String(one.id) === id);
    if (!node) return null;
    if (depth === ids.length - 1) return { node, parents };
    parents.push(node);
    graph = node.subgraph;
  }
  return null;
}

/**
 * The Prompt Timeline above a sampler: `{node, exact}`; `exact` is false when a Shot Cut in between gives segments
 * other numbers. Null when there is none.
 */
export function timelineOf(root, executionId) {
  const found = findNode(root, executionId);
  let exact = true;
  let [node, parents, input] = [found?.node, found?.parents ?? [], "timeline"];
  for (let hops = 0; node && hops < 100; hops++) {
    const source = sourceOf(node, parents, input);
    if (!source) return null;
    ({ node, parents } = source);
    const type = node.comfyClass ?? node.type;
    if (type === "GF_PromptTimeline") return { node, exact };
    if (type === "GF_ShotCut") exact = false;
    input = type === "GF_ShotCut" ? "timeline" : 0; // else a reroute or another node that hands on
  }
  return null;
}

function nodesOf(graph) {
  return graph?.nodes ?? graph?._nodes ?? [];
}

/** The node whose output feeds `input` (a name or a place), inside or outside of subgraphs. */
function sourceOf(node, parents, input) {
  const slot = typeof input === "number" ? input : (node.inputs ?? []).findIndex(({ name }) => name === input);
  const link = slot < 0 ? null : linkInto(node, slot);
  if (!link) return null;
  if (String(link.origin_id) === INSIDE_IN) {
    const outer = parents.at(-1);
    return outer ? sourceOf(outer, parents.slice(0, -1), Number(link.origin_slot)) : null;
  }
  const origin = nodesOf(node.graph).find((one) => String(one.id) === String(link.origin_id));
  return origin?.subgraph ? insideOf(origin, parents, link.origin_slot) : origin && { node: origin, parents };
}

/** The node inside subgraph node `outer` that makes its output `slot`. */
function insideOf(outer, parents, slot) {
  const { subgraph } = outer;
  const link = getLink(subgraph, subgraph.outputs?.[slot]?.linkIds?.[0]);
  const node = link && nodesOf(subgraph).find((one) => String(one.id) === String(link.origin_id));
  const within = [...parents, outer];
  return node?.subgraph ? insideOf(node, within, link.origin_slot) : node && { node, parents: within };
}

function linkInto(node, slot) {
  if (node.getInputLink) return node.getInputLink(slot);
  return getLink(node.graph, node.inputs?.[slot]?.link);
}

function getLink(graph, id) {
  if (id === null || id === undefined) return null;
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id] ?? null;
}
