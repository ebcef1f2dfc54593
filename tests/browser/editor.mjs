// Opens a workflow of the pack in ComfyUI's editor, as the template browser does, runs it, and opens
// the help of a node. What was seen is printed as one JSON object for tests/browser/test_editor.py.
//
//     node editor.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for screenshots) as paths,
// picture (of the graph) as a path, pack, workflow, and helped, the type of the node to explain.

import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, look, openTemplate, PATIENCE_MS, runWorkflow, watch } from "./page.mjs";

const VIEW = { width: 1920, height: 1080 };

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: VIEW });
    page.setDefaultTimeout(PATIENCE_MS);
    const watched = await watch(page, settings.url);
    const opened = await open(page, settings);
    const run = await runWorkflow(page);
    await page.screenshot({ path: path.join(settings.folder, `${settings.workflow}.png`) });
    await drawGraph(page, settings.picture);
    const help = await openHelp(page, settings.helped);
    await page.screenshot({ path: path.join(settings.folder, `${settings.workflow}-help.png`) });
    const broken = await openBroken(page);
    return { ...watched, opened, run, help, broken };
  } finally {
    await browser.close();
  }
}

async function open(page, settings) {
  await page.goto(settings.url);
  await page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
  await page.waitForTimeout(2500);
  await page.keyboard.press("Escape"); // the templates, which a new user is offered
  await openTemplate(page, settings.pack, settings.workflow);
  return { ...(await look(page)), prompt: await promptOf(page) };
}

// The graph in API format, as the editor would send it.
async function promptOf(page) {
  return page.evaluate(async () => (await window.app.graphToPrompt()).output);
}

// The groups with what lies in them, at full size and without the editor's panels: docs/graph.png.
async function drawGraph(page, file) {
  await page.setViewportSize({ width: 2400, height: 1300 });
  await toggleFocusMode(page);
  await showMinimap(page, false);
  const clip = await page.evaluate(showGroups, { margin: 10, corner: 100 });
  await page.waitForTimeout(1000); // until the canvas is drawn anew
  await page.screenshot({ path: file, clip });
  await showMinimap(page, true);
  await toggleFocusMode(page);
  await page.setViewportSize(VIEW);
}

async function showMinimap(page, isShown) {
  await page.evaluate((isShown) => {
    return window.app.extensionManager.setting.set("Comfy.Minimap.Visible", isShown);
  }, isShown);
}

async function toggleFocusMode(page) {
  await page.evaluate(() => {
    return window.app.extensionManager.command.execute("Workspace.ToggleFocusMode");
  });
}

// Moves the canvas so that the groups begin at `corner`: their box on the screen, in pixels.
function showGroups({ margin, corner }) {
  const { canvas, graph } = window.app;
  const boxes = graph.groups.map(({ pos: [x, y], size: [w, h] }) => [x, y, x + w, y + h]);
  const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])) - margin);
  const [right, bottom] = [2, 3].map((side) => Math.max(...boxes.map((box) => box[side])) + margin);
  canvas.ds.scale = 1;
  canvas.ds.offset = [corner - left, corner - top];
  canvas.setDirty(true, true);
  const { x, y } = canvas.canvas.getBoundingClientRect();
  return { x: x + corner, y: y + corner, width: right - left, height: bottom - top };
}

// Selects the node and presses the (i) above it: the text of the panel that opens.
async function openHelp(page, type) {
  await page.evaluate((type) => {
    const { canvas, graph } = window.app;
    canvas.selectNode(graph.nodes.find((node) => node.type === type));
  }, type);
  await page.locator("[data-testid=info-button]").click();
  const help = page.locator(".node-help-content");
  await help.locator("li").first().waitFor();
  return help.innerText();
}

// The same graph with a node and a file that do not exist, to know that complaints would be seen.
async function openBroken(page) {
  await page.evaluate(async () => {
    const graph = structuredClone(window.app.graph.serialize());
    graph.nodes.find((node) => node.type === "VAELoader").widgets_values = ["absent.safetensors"];
    graph.nodes.find((node) => node.type === "VAEDecode").type = "NoSuchNode";
    await window.app.loadGraphData(graph);
  });
  return look(page);
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
