// Looks at a node of the pack in ComfyUI's editor in another language, in both renderers and themes:
// name, labels, tooltips and the help page; then the same with a locale that lacks texts. What was
// seen is printed as one JSON object for tests/browser/test_languages.py.
//
//     node languages.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for screenshots) as paths,
// language (as a browser says it), node (its type), values (of its widgets), tooltips (the widgets
// to point at), and lacking (keys of the node's translation to leave out, each as a list).

import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, PATIENCE_MS, watch } from "./page.mjs";

const LOOKS = [
  { name: "classic-dark", isVue: false, theme: "dark" },
  { name: "vue-light", isVue: true, theme: "light" },
];

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const whole = await lookAround(browser, settings, []);
    const lacking = await lookAround(browser, settings, settings.lacking);
    return { whole, lacking };
  } finally {
    await browser.close();
  }
}

// The editor takes its language from the browser, so that the server's settings stay as they are.
async function lookAround(browser, settings, lacking) {
  const context = await browser.newContext({
    locale: settings.language,
    viewport: { width: 1920, height: 1080 },
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const messages = [];
  page.on("console", (message) => {
    messages.push({ kind: message.type(), text: message.text(), from: message.location().url });
  });
  const watched = await watch(page, settings.url);
  await leaveOut(page, settings, lacking);
  const looks = {};
  for (const look of LOOKS) {
    await open(page, settings, look);
    const seen = await seeNode(page, settings, look);
    await page.screenshot({
      path: path.join(settings.folder, `${look.name}-${lacking.length ? "lacking" : "whole"}.png`),
    });
    looks[look.name] = { ...seen, help: await readHelp(page, settings.node) };
    await page.screenshot({ path: path.join(settings.folder, `${look.name}-help.png`) });
  }
  await context.close();
  return { ...watched, messages, looks };
}

// Answers the editor's question for translations without some of the node's texts.
async function leaveOut(page, { url, node }, lacking) {
  if (!lacking.length) return;
  await page.route("**/api/i18n", async (route) => {
    const response = await route.fetch();
    const translations = await response.json();
    for (const language of Object.values(translations)) {
      for (const keys of lacking) remove(language.nodeDefs?.[node], keys);
    }
    await route.fulfill({ response, json: translations });
  });
}

function remove(tree, keys) {
  const branch = keys.slice(0, -1).reduce((part, key) => part?.[key], tree);
  delete branch?.[keys.at(-1)];
}

async function open(page, { url }, { isVue, theme }) {
  await page.goto(url);
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.LuminaNextSampler,
  );
  await page.waitForTimeout(2500);
  await page.keyboard.press("Escape"); // the templates, which a new user is offered
  await page.evaluate(
    async ([isVue, theme]) => {
      const { setting } = window.app.extensionManager;
      await setting.set("Comfy.VueNodes.Enabled", isVue);
      await setting.set("Comfy.ColorPalette", theme);
    },
    [isVue, theme],
  );
}

// A new node of the type: its title, labels, and the tooltips of some widgets.
async function seeNode(page, { node: type, values, tooltips }, { isVue }) {
  const title = await page.evaluate(addNode, [type, values]);
  await page.waitForTimeout(1500); // until it is drawn
  const labels = await page.evaluate(readLabels);
  const shown = {};
  for (const name of tooltips) {
    const [x, y] = isVue ? await placeInVue(page, labels[name]) : await page.evaluate(place, name);
    await page.mouse.move(10, 900);
    await page.mouse.move(x, y, { steps: 3 });
    shown[name] = await tooltip(page, isVue);
  }
  return { title, labels, tooltips: shown };
}

function addNode([type, values]) {
  const { canvas, graph } = window.app;
  graph.clear();
  const node = window.LiteGraph.createNode(type);
  graph.add(node);
  node.pos = [0, 0];
  for (const [name, value] of Object.entries(values)) {
    node.widgets.find((widget) => widget.name === name).value = value;
  }
  canvas.ds.scale = 1;
  canvas.ds.offset = [500, 250];
  canvas.setDirty(true, true);
  return node.title;
}

function readLabels() {
  const [node] = window.app.graph.nodes;
  const slots = [...node.inputs, ...node.outputs];
  const ofSlots = slots.map((slot) => [slot.name, slot.label ?? slot.localized_name ?? slot.name]);
  const ofWidgets = node.widgets.map((widget) => [widget.name, widget.label ?? widget.name]);
  return Object.fromEntries([...ofSlots, ...ofWidgets]);
}

// Where a widget of the only node is on the classic canvas.
function place(name) {
  const { canvas, graph } = window.app;
  const [node] = graph.nodes;
  const widget = node.widgets.find((widget) => widget.name === name);
  const [x, y] = canvas.ds.convertOffsetToCanvas([node.pos[0] + 60, node.pos[1] + widget.y + 10]);
  const { left, top } = canvas.canvas.getBoundingClientRect();
  return [left + x, top + y];
}

async function placeInVue(page, label) {
  const element = page.locator("[data-node-id]").getByText(label, { exact: true }).first();
  const { x, y, width, height } = await element.boundingBox();
  return [x + width / 2, y + height / 2];
}

async function tooltip(page, isVue) {
  const shown = page.locator(isVue ? ".p-tooltip-text" : ".node-tooltip").first();
  await shown.waitFor();
  return shown.innerText();
}

// Selects the node and presses the (i) above it: the headings of the page that opens, and the widths
// of its pictures.
async function readHelp(page, type) {
  await page.evaluate((type) => {
    const { canvas, graph } = window.app;
    canvas.selectNode(graph.nodes.find((node) => node.type === type));
  }, type);
  await page.locator("[data-testid=info-button]").click();
  const help = page.locator(".node-help-content");
  await help.locator("h1").waitFor();
  await help.locator("img").first().waitFor();
  await page.waitForTimeout(500); // until the picture has come
  const pictures = await help
    .locator("img")
    .evaluateAll((images) => images.map((image) => image.naturalWidth));
  return { headings: await help.locator("h1, h2").allInnerTexts(), pictures };
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
