/**
 * Messages over the page, for this pack's own errors alone: what the host finds wrong by itself it says itself. They go
 * by themselves, and when the next Run is accepted or refused.
 */

const OWN_ERROR = "grounded_forcing.NotPossible"; // one that is meant for people
const OWN_REFUSAL = "custom_validation_failed"; // a node's own check, in its own words
const LIFE = 20000; // milliseconds

/** Whole sentences, each once, that the pack's nodes say of a graph that was not taken (`app.lastNodeErrors`). */
export function refusals(nodeErrors) {
  const own = Object.values(nodeErrors ?? {}).filter(({ class_type: type }) => type?.startsWith("GF_"));
  const errors = own.flatMap(({ errors }) => errors).filter(({ type }) => type === OWN_REFUSAL);
  const said = errors.map(({ details }) => /^\w+ - (.+)$/s.exec(details ?? "")?.[1] ?? ""); // "input - sentence", once per input
  return [...new Set(said.map((text) => text.trim()))].filter(Boolean);
}

/** What an `execution_error` of the host says in this pack's own words, or null. */
export const failure = ({ exception_type: type, exception_message: said }) => (type === OWN_ERROR ? said.trim() : null);

/** The first sentence of a message. */
export const firstSentence = (text) => /^.*?[.!?](?=\s|$)/s.exec(text.trim())?.[0] ?? text.trim();

export class Toasts {
  /** `host` has `add(message)` and `remove(message)`; `told(text)` says whether the page shows that text already. */
  constructor(host, told) {
    Object.assign(this, { host, told, shown: [], refused: null });
  }

  /** The host's last verdict on a graph: a new one takes the refusals of the one before away. A Run that fails at once
   * may be told of before its graph is said to be taken, so what a Run says stays until the next one begins or is refused. */
  verdict(nodeErrors) {
    if (nodeErrors === this.refused) return;
    this.refused = nodeErrors;
    const said = refusals(nodeErrors);
    this.clear(({ refusal }) => refusal || said.length > 0);
    said.forEach((text) => this.say(text, true));
  }

  /** Newer front ends mark a node that failed and say why two clicks away; older ones say it in a dialog. */
  say(detail, refusal = false) {
    const message = { severity: "error", summary: "Grounded Forcing", detail, life: LIFE };
    const one = { message, refusal };
    this.shown.push(one);
    setTimeout(() => this.shown.includes(one) && !this.told(detail) && this.host().add(message), 300);
  }

  /** Take these messages away; without a choice all, as when a Run begins. */
  clear(which = () => true) {
    for (const { message } of this.shown.filter(which)) this.host().remove?.(message);
    this.shown = this.shown.filter((one) => !which(one));
  }
}
