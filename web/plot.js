// Draws lines in a small picture with labels and a caption. It takes its colors from the editor's
// theme and its size from where it stands, so that neither theme nor zoom needs another drawing.

const SVG = "http://www.w3.org/2000/svg";
const LINE_PX = 1.5;
const DOT_PX = 5;
const MAX_DOTS = 60; // more of them would run together
const COLOR = "#e0883a"; // seen on dark and on light

/** What a plot needs, in pixels of the node. */
export const HEIGHT_PX = 130;

/** The class of its element. */
export const PLOT = "lumina-next-plot";

/**
 * A line through points of the picture: x from left to right and y from bottom to top, 0 to 1.
 * @typedef {object} Line
 * @property {[number, number][]} points
 * @property {boolean} [isDotted] a dot on each point
 * @property {number} [opacity] 1 unless given
 */

/**
 * A text in the picture, or below it where it has no y.
 * @typedef {{x: number, y?: number, text: string}} Label
 */

/**
 * @typedef {object} Drawing
 * @property {Line[]} lines
 * @property {string} caption
 * @property {Label[]} [labels]
 * @property {number} [divide] x of a vertical line
 * @property {string} [explanation] shown where the mouse rests
 */

/** A picture with its caption; `element` goes into the page. */
export class Plot {
  constructor() {
    this.element = html("div", {
      boxSizing: "border-box",
      display: "flex",
      flexDirection: "column",
      minHeight: `${HEIGHT_PX}px`,
      padding: "10px 12px 6px",
      borderRadius: "6px",
      background: "var(--component-node-widget-background, var(--comfy-input-bg))",
      color: "var(--component-node-foreground, var(--fg-color))",
      font: "11px/14px system-ui, sans-serif",
      overflow: "hidden",
      userSelect: "none",
    });
    this.element.className = PLOT;
    this.picture = html("div", { position: "relative", flex: "1", marginBottom: "16px" });
    this.caption = html("div", {
      flex: "none",
      overflow: "hidden",
      textAlign: "center",
      textOverflow: "ellipsis",
    });
    this.element.append(this.picture, this.caption);
  }

  /** @param {Drawing} drawing */
  show({ lines, caption, labels = [], divide, explanation = "" }) {
    const shapes = [...axes(divide), ...lines.flatMap(shapesOf)];
    this.picture.replaceChildren(canvas(shapes), ...labels.map(label));
    this.picture.title = explanation;
    this.say(caption, "nowrap");
  }

  /** A text alone: why there is nothing to draw. @param {string} text */
  showText(text) {
    this.picture.replaceChildren();
    this.picture.title = "";
    this.say(text, "normal");
  }

  /** @param {string} text @param {string} whiteSpace */
  say(text, whiteSpace) {
    this.caption.style.whiteSpace = whiteSpace;
    this.caption.textContent = text;
    this.caption.title = text; // in full, where the node is too narrow for it
  }
}

/** @param {SVGElement[]} shapes */
function canvas(shapes) {
  const element = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
  Object.assign(element.style, {
    position: "absolute",
    inset: "0",
    width: "100%",
    height: "100%",
    overflow: "visible", // of dots on the edge
  });
  element.append(...shapes);
  return element;
}

/** @param {number} [divide] */
function axes(divide) {
  const lines = [path("M 0 0 V 1 H 1", LINE_PX, "currentColor")];
  if (divide !== undefined) lines.push(path(`M ${divide} 0 V 1`, LINE_PX, "currentColor"));
  for (const line of lines) line.setAttribute("opacity", "0.3");
  return lines;
}

/** @param {Line} line */
function shapesOf({ points, isDotted = false, opacity = 1 }) {
  const places = points.map(([x, y]) => `${x} ${1 - y}`); // an SVG's y runs down
  const shapes = [path(`M ${places.join(" L ")}`, LINE_PX, COLOR)];
  if (isDotted && places.length <= MAX_DOTS) {
    // Lines without length: their round ends stay round however the picture is stretched.
    shapes.push(path(places.map((place) => `M ${place} h 0`).join(" "), DOT_PX, COLOR));
  }
  for (const shape of shapes) shape.setAttribute("opacity", String(opacity));
  return shapes;
}

/**
 * @param {string} d the path, in the picture's units
 * @param {number} width in pixels of the node, whatever the picture's size
 * @param {string} stroke
 */
function path(d, width, stroke) {
  return svg("path", {
    d,
    stroke,
    fill: "none",
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
    "stroke-width": String(width),
    "vector-effect": "non-scaling-stroke",
  });
}

/** A text that ends where the picture ends. @param {Label} label */
function label({ x, y, text }) {
  const down = y === undefined ? 0 : 1 - y;
  const element = html("div", {
    position: "absolute",
    left: `${100 * x}%`,
    top: `${y === undefined ? 100 : 100 * down}%`,
    transform: `translate(${-100 * x}%, ${-100 * down}%)`,
    padding: y === undefined ? "2px 0" : "0 4px",
    opacity: "0.65",
    whiteSpace: "nowrap",
  });
  element.textContent = text;
  return element;
}

/** @param {string} tag @param {Partial<CSSStyleDeclaration>} style */
function html(tag, style) {
  const element = document.createElement(tag);
  Object.assign(element.style, style);
  return element;
}

/** @param {string} tag @param {Record<string, string>} attributes */
function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
