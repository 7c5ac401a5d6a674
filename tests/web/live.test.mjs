// How much of a film the gauge of a node says is there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveView } from "../../web/live.js";

for (const [share, width] of [[0.5, "50.0%"], [0, "0.0%"], [1.2, "100.0%"], [-1, "0.0%"], [NaN, "0.0%"], [null, "before"]]) {
  test(`a share of ${share} is a bar of ${width}`, () => {
    const view = Object.assign(Object.create(LiveView.prototype), { fill: { style: { width: "before" } } });
    view.measure(share);
    assert.equal(view.fill.style.width, width);
  });
}
