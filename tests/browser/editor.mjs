// Opens a workflow of the pack in ComfyUI's editor, as the template browser does, runs it, and opens
// the help of a node. What was seen is printed as one JSON object for tests/browser/test_editor.py.
//
//     node editor.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for screenshots) as paths,
// picture (of the graph) as a path, pack, workflow, and helped, the type of the node to explain.

import path from "node:path";
import { chromium } from "playwright-core";

const PATIENCE_MS = 120_000;
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-dev-shm-usage",
];

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
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

// What goes wrong in the page, and what it asks of other machines: filled while the page lives.
async function watch(page, url) {
  const watched = { exceptions: [], elsewhere: [] };
  page.on("pageerror", (error) => watched.exceptions.push(String(error)));
  await page.route("**/*", (route) => {
    const address = new URL(route.request().url());
    const isLocal = address.host === new URL(url).host || !address.protocol.startsWith("http");
    if (isLocal) return route.continue();
    watched.elsewhere.push(address.href);
    return route.abort();
  });
  return watched;
}

async function open(page, settings) {
  await page.goto(`${settings.url}/?template=${settings.workflow}&source=${settings.pack}`);
  await page.waitForFunction(
    (type) => window.app?.graph?.nodes?.some((node) => node.type === type),
    settings.helped,
  );
  return { ...(await look(page)), prompt: await promptOf(page) };
}

// The nodes on the canvas, and every complaint of the editor that is on the screen.
async function look(page) {
  await page.waitForTimeout(1500); // complaints come a moment after the graph
  const nodes = await page.evaluate(() =>
    window.app.graph.nodes.map((node) => ({
      id: node.id,
      type: node.type,
      isKnown: node.type in window.LiteGraph.registered_node_types,
      isFaulty: Boolean(node.has_errors),
      widgets: Object.fromEntries((node.widgets ?? []).map((w) => [w.name, w.value])),
    })),
  );
  const complaints = page.locator(
    "[data-testid=error-overlay], [role=dialog], [role=alertdialog], .p-toast-message",
  );
  return { nodes, complaints: await complaints.allInnerTexts() };
}

// The graph in API format, as the editor would send it.
async function promptOf(page) {
  return page.evaluate(async () => (await window.app.graphToPrompt()).output);
}

// Queues the graph as the Run button does and waits until its picture is on the canvas.
async function runWorkflow(page) {
  const accepted = page.waitForResponse(
    (response) => response.url().endsWith("/prompt") && response.request().method() === "POST",
  );
  await page.evaluate(() => void window.app.queuePrompt(0, 1));
  const response = await accepted;
  const answer = await response.json();
  if (!response.ok()) return { refusal: JSON.stringify(answer) };
  await page.waitForFunction(() =>
    window.app.graph.nodes.some((node) => node.imgs?.[0]?.naturalWidth > 0),
  );
  const shown = await page.evaluate(() => {
    const { imgs } = window.app.graph.nodes.find((node) => node.imgs?.length);
    return imgs.map((image) => [image.naturalWidth, image.naturalHeight]);
  });
  return { ...(await look(page)), id: answer.prompt_id, shown };
}

// The groups with what lies in them, at full size and without the editor's panels: docs/graph.png.
async function drawGraph(page, file) {
  await toggleFocusMode(page);
  const clip = await page.evaluate(showGroups, { margin: 10, corner: 100 });
  await page.waitForTimeout(1000); // until the canvas is drawn anew
  await page.screenshot({ path: file, clip });
  await toggleFocusMode(page);
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
