// Opens graphs of other packs in ComfyUI's editor, where those packs are not installed, and runs one.
// What was seen is printed as one JSON object for tests/browser/test_wrapper_graphs.py.
//
//     node wrapper_graphs.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium as a path, graphs by name, runnable, the
// name of the one to run, and file, which its loaders take.

import { chromium } from "playwright-core";
import { FLAGS, look, PATIENCE_MS, runWorkflow, watch } from "./page.mjs";

async function main({ url, chromium: executablePath, graphs, runnable, file }) {
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
    page.setDefaultTimeout(PATIENCE_MS);
    const watched = await watch(page, url);
    await page.goto(url);
    await page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
    await page.waitForTimeout(2500);
    await page.keyboard.press("Escape"); // the templates, which a new user is offered
    const opened = {};
    for (const [name, graph] of Object.entries(graphs)) opened[name] = await open(page, graph);
    await open(page, graphs[runnable]);
    await page.evaluate((file) => {
      for (const node of window.app.graph.nodes.filter(({ type }) => /Loader$/.test(type))) {
        node.widgets[0].value = file;
      }
    }, file);
    const { refusal, shown } = await runWorkflow(page);
    return { ...watched, opened, run: { refusal, shown } };
  } finally {
    await browser.close();
  }
}

async function open(page, graph) {
  await page.evaluate((graph) => window.app.loadGraphData(graph), graph);
  const { nodes } = await look(page);
  const prompt = await page.evaluate(async () => (await window.app.graphToPrompt()).output);
  return { nodes, prompt };
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
