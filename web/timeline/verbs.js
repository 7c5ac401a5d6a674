/** The storyboard's verbs, a row each, as gf_core/timeline/verbs.py has them, and what the page says of each. */

export const VERBS = {
  start: { force: 3, title: "opens the film" },
  then: { force: 0, written: "then:", means: "same shot goes on", options: ["recache", "blend"], title: "then: the shot goes on under a new prompt" },
  cut: { force: 1, written: "cut:", means: "new shot, same cast", title: "cut: a new shot, the cast stays" },
  back: { force: 2, written: "back to 1:", means: "the cast of segment 1", options: ["motion"], title: "back to: a new shot with the cast of an earlier segment" },
  scene: { force: 2, written: "scene:", means: "forget all", title: "scene: everything is new" },
};
