// How a new node of the pack begins: its choices, what they are called, and its size.
//
// A graph that is loaded has its own values and sizes, which the editor sets after this. It forgets the
// height of a node whose choices bring inputs; that is put back.

import { app } from "../../scripts/app.js";

// Wide enough for names of files and presets, and high enough to write a prompt in.
const SMALLEST_SIZES = {
  LuminaNextModelLoader: [400, 0],
  LuminaNextTextEncoderLoader: [400, 0],
  LuminaNextPackTextEncoder: [400, 0],
  LuminaNextQuantize: [490, 0],
  LuminaNextFittedSolverLoader: [400, 0],
  LuminaNextPlotRegions: [400, 340],
  LuminaNextPlotSigmas: [400, 340],
  LuminaNextSampler: [430, 0],
  LuminaNextSize: [460, 0],
  LuminaNextTextEncode: [400, 400],
};

app.registerExtension({
  name: "LuminaNext.NewNodes",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("LuminaNext")) return;
    const { required, optional } = node.constructor.nodeData.input;
    for (const [name, [, settings]] of Object.entries({ ...required, ...optional })) {
      if (settings?.labels) label(widgetOf(node, name), settings.labels);
      if (settings?.options && settings.default) widgetOf(node, name).value = settings.default;
    }
    const [width, height] = SMALLEST_SIZES[node.comfyClass] ?? [0, 0];
    enlarge(node, [width, height]);
    const configuredBefore = node.onConfigure;
    node.onConfigure = function (saved) {
      configuredBefore?.call(this, saved);
      if (saved.size) enlarge(this, saved.size);
    };
  },
});

function enlarge(node, [width, height]) {
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
}

function widgetOf(node, name) {
  return node.widgets.find((widget) => widget.name === name);
}

function label(widget, labels) {
  widget.options.getOptionLabel = (value) => labels[value] ?? String(value ?? "");
}
