// Opens graphs that were made for LuminaWrapper and for the Lumina-Next-SFT DiffusersWrapper, where
// those packs are not installed: each of their nodes becomes one of ours or of ComfyUI's own.
//
// ComfyUI's own replacing of nodes changes one node for one, with links one to one. Here one link
// carries both prompts, and one node loads, encodes and draws, so the saved graph is rewritten
// before the editor reads it. Prompts for areas become the lines of a grid, where their rows and
// columns say; the wrapper went by their order in the chain.

import { app } from "../../scripts/app.js";

const MODEL_FILE = "lumina-next-sft.safetensors";
const TEXT_ENCODER_FILE = "gemma-2b.safetensors";
const TRAINED_SIZE = 1024;
const GAP = 40;

app.registerExtension({
  name: "LuminaNext.WrapperGraphs",
  beforeConfigureGraph(saved) {
    const replaced = new Rewriting(saved).run();
    if (!replaced.length) return;
    app.extensionManager.toast.add({
      severity: "info",
      summary: "Opened with the nodes of Lumina-Next",
      detail: `In place of: ${replaced.join(", ")}. Check the files in the loaders.`,
      life: 10_000,
    });
  },
});

/** One saved graph, rewritten in place. */
class Rewriting {
  /** @param {{nodes: object[], links: Array[], last_node_id: number, last_link_id: number}} saved */
  constructor(saved) {
    this.saved = saved;
    this.prompts = {}; // outputs of the positive and the negative prompt, by the encoder's id
  }

  /** Types of the nodes that were replaced. @returns {string[]} */
  run() {
    const old = (this.saved.nodes ?? []).filter(
      ({ type }) => type in REPLACEMENTS && !(type in LiteGraph.registered_node_types),
    );
    const types = old.map(({ type }) => type);
    if (types.includes("LuminaT2ISampler") && !this.hasKnownPrompts(old)) return [];
    for (const kind of Object.keys(REPLACEMENTS)) {
      for (const node of old.filter(({ type }) => type === kind)) REPLACEMENTS[kind](this, node);
    }
    return [...new Set(types)];
  }

  /** Whether every sampler has its prompts from a node of the wrapper. */
  hasKnownPrompts(nodes) {
    return nodes
      .filter(({ type }) => type === "LuminaT2ISampler")
      .every((node) => {
        const source = this.source(node, "lumina_embeds");
        return source && this.node(source[0]).type.startsWith("LuminaGemmaTextEncode");
      });
  }

  node(id) {
    return this.saved.nodes.find((node) => node.id === id);
  }

  /** [node's id, output slot] that an input is linked to, or null. */
  source(node, name) {
    const number = node.inputs?.find((input) => input.name === name)?.link;
    const link = this.saved.links.find(([id]) => id === number);
    return link ? [link[1], link[2]] : null;
  }

  unlink(node) {
    for (const { link: number } of node.inputs ?? []) {
      const link = this.saved.links.find(([id]) => id === number);
      if (!link) continue;
      const output = this.node(link[1]).outputs[link[2]];
      output.links = output.links.filter((id) => id !== number);
      this.saved.links = this.saved.links.filter(([id]) => id !== number);
    }
  }

  /** Makes `node` another one. inputs: {name: [type, source]}. outputs: [name, type] of each. */
  become(node, type, values, inputs, outputs) {
    this.unlink(node);
    const links = (node.outputs ?? []).map((output) => output.links ?? []);
    Object.assign(node, {
      type,
      widgets_values: values,
      properties: { "Node name for S&R": type },
      inputs: Object.entries(inputs).map(([name, [kind]]) => ({ name, type: kind, link: null })),
      outputs: outputs.map(([name, kind], slot) => ({ name, type: kind, links: links[slot] ?? [] })),
    });
    for (const link of this.saved.links) {
      if (link[1] === node.id) link[5] = outputs[link[2]][1];
    }
    for (const [slot, [kind, source]] of Object.values(inputs).entries()) {
      if (source) this.link(source, node, slot, kind);
    }
    return node;
  }

  link([id, slot], target, into, kind) {
    const number = (this.saved.last_link_id += 1);
    this.saved.links.push([number, id, slot, target.id, into, kind]);
    const output = this.node(id).outputs[slot];
    output.links = [...(output.links ?? []), number];
    target.inputs[into].link = number;
  }

  remove(node) {
    this.unlink(node);
    const numbers = (node.outputs ?? []).flatMap((output) => output.links ?? []);
    for (const [number, , , target, into] of this.saved.links) {
      if (numbers.includes(number)) this.node(target).inputs[into].link = null;
    }
    this.saved.links = this.saved.links.filter(([number]) => !numbers.includes(number));
    this.saved.nodes = this.saved.nodes.filter((other) => other !== node);
  }

  /** A new node to the left of another. row: how far down, in nodes. */
  add(beside, row, size, ...what) {
    const id = (this.saved.last_node_id += 1);
    const [x, y] = placeOf(beside);
    const place = [x - size[0] - GAP, y + row * (size[1] + 2 * GAP)];
    const node = { id, pos: place, size, flags: {}, order: 0, mode: beside.mode ?? 0 };
    this.saved.nodes.push(node);
    return this.become(node, ...what);
  }
}

function placeOf({ pos }) {
  return [pos[0], pos[1]]; // older graphs have an object with these keys
}

// From nodes of theirs to ours: loaders, prompts and samplers, in the order in which they are made.
const REPLACEMENTS = {
  DownloadAndLoadLuminaModel(graph, node) {
    graph.become(node, ...MODEL);
  },
  DownloadAndLoadGemmaModel(graph, node) {
    graph.become(node, ...TEXT_ENCODER);
  },
  LuminaGemmaTextEncode(graph, node) {
    const [positive, negative] = node.widgets_values;
    const values = [positive, negative, "none", "off", false];
    const clip = graph.source(node, "gemma_model");
    graph.become(node, "LuminaNextTextEncode", values, { clip: ["CLIP", clip] }, PROMPTS);
    graph.prompts[node.id] = [[node.id, 0], [node.id, 1]];
  },
  LuminaGemmaTextEncodeArea(graph, node) {
    const [shared, negative] = node.widgets_values;
    const { lines, rows, columns } = cellsOf(graph, graph.source(node, "lumina_area_prompt"), shared);
    const clip = graph.source(node, "gemma_model");
    const values = [lines.join("\n"), rows, columns, "", 0];
    graph.become(node, "LuminaNextGrid", values, { clip: ["CLIP", clip] }, [PROMPTS[0]]);
    const size = [400, 120];
    const beside = graph.add(
      node, 1, size, "CLIPTextEncode", [negative], { clip: ["CLIP", clip] }, [PROMPTS[1]],
    );
    graph.prompts[node.id] = [[node.id, 0], [beside.id, 0]];
  },
  LuminaTextAreaAppend(graph, node) {
    graph.remove(node);
  },
  LuminaT2ISampler(graph, node) {
    const [seed, after, steps, cfg, isProportional, isLarger, time, shift, solver, , strength] =
      node.widgets_values;
    const embeds = graph.source(node, "lumina_embeds");
    let model = graph.source(node, "lumina_model");
    const latent = graph.source(node, "latent");
    if (isLarger || isProportional) {
      const options = resolution(model, isLarger ? time : null, isProportional);
      model = [graph.add(node, -1, [300, 290], ...options).id, 0];
    }
    const plan = { steps, shift, solver, strength: strength ?? 1 };
    const inputs = samplerInputs(model, graph.prompts[embeds[0]], latent);
    graph.become(node, "LuminaNextSampler", sampling(seed, after, cfg, plan), inputs, LATENTS);
  },
  LuminaDiffusersNode(graph, node) {
    const values = [...node.widgets_values];
    if (typeof values[6] !== "string") values.splice(6, 0, "randomize"); // after the seed
    const [, positive, negative, steps, cfg, seed, after, batch, time, , isCleaned] = values;
    const [isShifted, shift, strength] = values.slice(12);
    const loaded = graph.add(node, -2, [400, 120], ...MODEL);
    const clip = graph.add(node, -1, [400, 120], ...TEXT_ENCODER);
    const words = [positive, negative, "none", isCleaned ? "Latin text" : "off", false];
    const encoded = graph.add(
      node,
      0,
      [400, 300],
      "LuminaNextTextEncode",
      words,
      { clip: ["CLIP", [clip.id, 0]] },
      PROMPTS,
    );
    const options = resolution([loaded.id, 0], time, true);
    const model = graph.add(node, -1.2, [300, 290], ...options);
    let latent = graph.source(node, "latents");
    if (!latent) {
      const size = ["1024 x 1024", batch];
      latent = [graph.add(node, 2, [400, 160], "LuminaNextSize", size, {}, SIZES).id, 0];
    }
    const plan = { steps: steps + 1, shift: isShifted ? shift : 1, solver: "euler", strength };
    const drawing = sampling(Math.max(seed, 0), after, cfg, plan);
    const inputs = samplerInputs([model.id, 0], [[encoded.id, 0], [encoded.id, 1]], latent);
    graph.become(node, "LuminaNextSampler", drawing, inputs, LATENTS);
  },
};

const PROMPTS = [
  ["positive", "CONDITIONING"],
  ["negative", "CONDITIONING"],
];
const LATENTS = [
  ["latent", "LATENT"],
  ["denoised", "LATENT"],
];
const SIZES = [
  ["LATENT", "LATENT"],
  ["width", "INT"],
  ["height", "INT"],
];
const MODEL = [
  "LuminaNextModelLoader",
  [MODEL_FILE, "default", "SDXL"],
  {},
  [["MODEL", "MODEL"]],
];
const TEXT_ENCODER = [
  "LuminaNextTextEncoderLoader",
  [TEXT_ENCODER_FILE, "default"],
  {},
  [["CLIP", "CLIP"]],
];

/** time: where linear scaling gives way to NTK, or null for no scaling. */
function resolution(model, time, isProportional) {
  const method = time === null ? ["none"] : ["watershed", time];
  const values = [...method, TRAINED_SIZE, true, isProportional ? "on" : "off"];
  const inputs = { model: ["MODEL", model] };
  return ["LuminaNextResolution", values, inputs, [["MODEL", "MODEL"]]];
}

/** The lines of a grid, from the last of a chain of "Lumina Text Area Append". */
function cellsOf(graph, last, shared) {
  const areas = [];
  for (let source = last; source; source = graph.source(graph.node(source[0]), "prev_prompt")) {
    const [prompt, row, column] = graph.node(source[0]).widgets_values;
    areas.unshift({ prompt, row, column });
  }
  const rows = Math.max(1, ...areas.map(({ row }) => row));
  const columns = Math.max(1, ...areas.map(({ column }) => column));
  const lines = Array(rows * columns).fill(shared || "background"); // of cells without a prompt
  for (const { prompt, row, column } of areas) {
    const words = [prompt, shared].filter(Boolean).join(", ");
    lines[(row - 1) * columns + column - 1] = words.replace(/\s*\n\s*/g, " ");
  }
  return { lines, rows, columns };
}

function samplerInputs(model, [positive, negative], latent) {
  return {
    model: ["MODEL", model],
    positive: ["CONDITIONING", positive],
    negative: ["CONDITIONING", negative],
    latent_image: ["LATENT", latent],
  };
}

/**
 * Values of "Lumina-Next Sampler". Their steps are points, one more than ours; strength leaves out
 * points at the start.
 */
function sampling(seed, after, cfg, { steps: points, shift, solver, strength }) {
  const all = Math.max(points - 1, 1);
  const steps = Math.max(all - Math.floor(points * (1 - strength) + 1e-9), 1);
  const denoise = Math.round((100 * steps) / all) / 100;
  return [seed, after, "Custom", steps, "rational", shift, solver, cfg, denoise];
}
