/**
 * Who feeds whom: the node behind an execution id ("5:2" is node 2 inside subgraph node 5), the Prompt Timeline that
 * feeds a sampler, and the Take that a node shows. Front ends differ in whether ids are numbers, so all are compared
 * as text.
 */

const INSIDE = "-10"; // where a subgraph's own inputs come from
const BYPASSED = 4;
export const RENDERS = new Set(["GF_StreamSampler", "GF_SegmentTakes"]);

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
 * The open graph as the host would be asked to run it (API format): `{executionId: {class_type, inputs, node}}`. Inputs
 * are `[executionId, slot]` where they are linked, else what their widget holds. Unlike the front end's own way to write
 * it, this asks no widget for its value to send, which may upload or count.
 */
export function sketch(root) {
  const prompt = {};
  const walk = (level) => {
    for (const node of level.graph?.nodes ?? level.graph?._nodes ?? []) {
      const id = `${level.prefix}${node.id}`;
      if (node.subgraph) {
        walk(within(level, node));
        continue;
      }
      const inputs = Object.fromEntries((node.widgets ?? []).map(({ name, value }) => [name, value]));
      (node.inputs ?? []).forEach(({ name }, slot) => {
        const value = origin(level, node.getInputLink?.(slot));
        if (value !== undefined) inputs[name] = value;
      });
      prompt[id] = { class_type: node.mode === BYPASSED ? "" : (node.comfyClass ?? node.type), inputs, node };
    }
  };
  walk({ graph: root, prefix: "", holder: null, above: null });
  return prompt;
}

const within = (level, node) => ({ graph: node.subgraph, prefix: `${level.prefix}${node.id}:`, holder: node, above: level });

/** Where a link comes from, through the edges of subgraphs: `[executionId, slot]`, a widget's value, or undefined. */
function origin({ graph, prefix, holder, above }, link) {
  if (!link) return undefined;
  const { origin_id: id, origin_slot: slot } = link;
  if (String(id) === INSIDE) {
    const { name, widget, link: outer } = holder.inputs?.[slot] ?? {};
    const outside = origin(above, outer == null ? null : above.graph.getLink?.(outer)); // its getInputLink looks inside
    return outside ?? holder.widgets?.find((one) => one.name === (widget?.name ?? name))?.value;
  }
  const from = graph.getNodeById?.(id);
  if (!from?.subgraph) return from ? [`${prefix}${id}`, slot] : undefined;
  const [inner] = from.subgraph.outputs?.[slot]?.linkIds ?? [];
  return origin(within({ graph, prefix, holder, above }, from), from.subgraph.getLink?.(inner));
}

/** The first node upwards of `executionId` that `found(type, inputs)` says is it: `{id, inputs}`, or null. */
function upwards(prompt, executionId, input, found) {
  let id = String(executionId);
  for (let hops = 0; hops < 100; hops++) {
    const { class_type: type, inputs } = prompt?.[id] ?? {};
    if (found(type)) return { id, inputs };
    const [from] = [inputs?.[input], ...Object.values(inputs ?? {})].filter(Array.isArray); // else a node that hands on
    if (!from) return null;
    id = String(from[0]);
  }
  return null;
}

/** Execution id of the Prompt Timeline above a sampler in a prompt (API format), or null. */
export const timelineOf = (prompt, executionId) =>
  upwards(prompt, executionId, "timeline", (type) => type === "GF_PromptTimeline")?.id ?? null;

/** The text that a node's film is made from; null where another node gives it or adds to it, and where there is none. */
export function textOf(prompt, executionId) {
  const { id, inputs } = upwards(prompt, executionId, "timeline", (type) => type === "GF_PromptTimeline" || type === "GF_ShotCut") ?? {};
  const text = id && prompt[id].class_type === "GF_PromptTimeline" ? inputs.timeline : null;
  return typeof text === "string" ? text : null;
}

/**
 * Name of the Take that a node makes, shows or, as a timeline, is rendered into; null where it is not known before a
 * Run, because another node gives it.
 */
export function takeOf(prompt, executionId) {
  const id = String(executionId);
  const renders = ([one, { class_type: type }]) => RENDERS.has(type) && timelineOf(prompt, one) === id;
  const below = prompt[id]?.class_type === "GF_PromptTimeline";
  const sampler = below ? Object.entries(prompt).find(renders)?.[1] : upwards(prompt, id, "take", (type) => RENDERS.has(type));
  const name = sampler?.inputs.take;
  return typeof name === "string" && name.trim() ? name.split(/[\\/]/).map((part) => part.trim()).join("/") : null;
}

/** The seed that the text of a sampler's timeline states, which goes before the sampler's own; null where it states none. */
export function writtenSeed(prompt, executionId) {
  const text = prompt[timelineOf(prompt, executionId)]?.inputs.timeline;
  return typeof text === "string" ? (/^[ \t]*@seed[ \t]+(\d+)/m.exec(text)?.[1] ?? null) : null;
}
