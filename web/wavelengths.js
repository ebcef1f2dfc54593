// Draws on "Lumina-Next Resolution" how far its method stretches each wavelength of the position
// encoding, against the trained size: which keep their place on a larger picture, and which repeat.

import { app } from "../../scripts/app.js";
import { addPreview } from "./preview.js";

const FAINTEST = 0.25;
const EXPLANATION =
  "From left to right the wavelengths of the position encoding, upward how far they are stretched: " +
  "not at all at the bottom, as far as the picture at the top. Wavelengths longer than the trained " +
  "size (right of the line) place objects, which repeat where they are not stretched in full. " +
  "Shorter ones draw details, which blur where they are stretched.";

app.registerExtension({
  name: "LuminaNext.Wavelengths",
  nodeCreated(node) {
    if (node.comfyClass === "LuminaNextResolution") {
      addPreview(node, "resolution", ["method", "trained_size"], draw);
    }
  },
});

/**
 * @param {object} numbers
 * @param {string} numbers.method
 * @param {number} numbers.trained_px
 * @param {boolean} numbers.assumed whether the trained size is
 * @param {number[]} numbers.wavelengths in pixels, rising
 * @param {{t: number, stretching: number[]}[]} numbers.lines
 * @returns {import("./plot.js").Drawing}
 */
function draw({ method, trained_px: trained, assumed, wavelengths, lines }) {
  const [first, last] = [Math.log(wavelengths[0]), Math.log(wavelengths.at(-1))];
  const across = (wavelength) => (Math.log(wavelength) - first) / (last - first);
  const divide = across(trained);
  return {
    lines: lines.map(({ t, stretching }) => ({
      // Stretched further than the picture is drawn alike: all stays in its place.
      points: stretching.map((share, i) => [across(wavelengths[i]), Math.min(share, 1)]),
      opacity: FAINTEST + (1 - FAINTEST) * t,
    })),
    divide,
    caption: lines.length > 1 ? `${method}, from noise (faint) to picture` : method,
    labels: [
      { x: 0, y: 1, text: "blurs" },
      { x: 1, y: 0, text: "repeats" },
      { x: divide, text: `${trained} px${assumed ? " assumed" : ""}` },
      { x: 1, text: "layout" },
    ],
    explanation: EXPLANATION,
  };
}
