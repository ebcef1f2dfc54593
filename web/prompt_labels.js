// Names above the prompt boxes of a node on the classic canvas.
//
// There a box shows its name only while it is empty. Nodes 2.0 always shows it, without this.

import { app } from "../../scripts/app.js";

const LEFT = 15;
const BASELINE = 7; // within the margin that the editor leaves above a box

app.registerExtension({
  name: "LuminaNext.PromptLabels",
  nodeCreated(node) {
    if (node.comfyClass !== "LuminaNextTextEncode") return;
    const drawBefore = node.onDrawForeground;
    node.onDrawForeground = function (context, ...rest) {
      drawBefore?.call(this, context, ...rest);
      if (!this.flags.collapsed) drawLabels(this, context);
    };
  },
});

function drawLabels(node, context) {
  context.save();
  context.font = `10px ${LiteGraph.NODE_FONT ?? "Arial"}`;
  context.fillStyle = LiteGraph.WIDGET_SECONDARY_TEXT_COLOR;
  context.textAlign = "left";
  for (const widget of node.widgets.filter(isTextBox)) {
    context.fillText(widget.label ?? widget.name, LEFT, widget.y + BASELINE);
  }
  context.restore();
}

function isTextBox(widget) {
  return widget.element instanceof HTMLTextAreaElement;
}
