// Draws the noise levels on "Lumina-Next Scheduler" and "Lumina-Next Sampler", as they are set.

import { app } from "../../scripts/app.js";
import { addPreview } from "./preview.js";

app.registerExtension({
  name: "LuminaNext.Sigmas",
  nodeCreated(node) {
    if (node.comfyClass === "LuminaNextScheduler") {
      addPreview(node, "scheduler", ["schedule", "steps", "denoise"], drawSchedule);
    } else if (node.comfyClass === "LuminaNextSampler") {
      addPreview(node, "sampler", ["preset", "denoise"], drawPlan);
    }
  },
});

/** @param {{sigmas: number[], schedule: string}} numbers */
function drawSchedule({ sigmas, schedule }) {
  return curve(sigmas, `${schedule}, ${count(Math.max(sigmas.length - 1, 0), "step")}`);
}

/** @param {{sigmas: number[], schedule: string, solver: string, model_calls: ?number}} numbers */
function drawPlan({ sigmas, schedule, solver, model_calls: calls }) {
  const cost = calls === null ? "as many model calls as it needs" : count(calls, "model call");
  return curve(sigmas, `${solver}, ${schedule}, ${cost}`);
}

/**
 * Sigma from 0 to 1 over the steps. No sigmas at all, of denoise 0, make an empty picture.
 * @param {number[]} sigmas
 * @param {string} caption
 * @returns {import("./plot.js").Drawing}
 */
function curve(sigmas, caption) {
  const points = sigmas.map((sigma, i) => [i / (sigmas.length - 1), sigma]);
  return {
    lines: points.length ? [{ points, isDotted: true }] : [],
    caption,
    labels: [
      { x: 0, text: "noise" },
      { x: 1, text: "picture" },
    ],
    explanation: "Noise level (sigma) at each step, from 1, noise, to 0, the picture.",
  };
}

/** @param {number} number @param {string} thing */
function count(number, thing) {
  return `${number} ${thing}${number === 1 ? "" : "s"}`;
}
