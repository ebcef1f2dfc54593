// Tooltips of inputs that a choice opens, in the editor's language.
//
// The editor translates names of such inputs but not their tooltips, which it takes from the node's
// definition as they are. So they are translated there, before the definition is registered.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let fetched; // a promise of what /i18n says, which stays the same while ComfyUI runs

app.registerExtension({
  name: "LuminaNext.TranslatedTooltips",
  async beforeRegisterNodeDef(_, definition) {
    if (!definition.name.startsWith("LuminaNext")) return;
    const texts = (await translations())[definition.name]?.inputs ?? {};
    for (const [name, [, settings]] of inputsOf(definition.input)) {
      translateOpened(texts, name, settings);
    }
  },
});

async function translations() {
  fetched ??= api
    .fetchApi("/i18n")
    .then((response) => response.json())
    .catch(() => ({})); // English then
  const language = app.extensionManager.setting.get("Comfy.Locale");
  return (await fetched)[language]?.nodeDefs ?? {};
}

function inputsOf(inputs) {
  return Object.entries({ ...inputs.required, ...inputs.optional });
}

// key: of the choice among the translations, as the editor calls it: the path with underscores.
function translateOpened(texts, key, settings) {
  for (const option of settings?.options ?? []) {
    for (const [name, [, opened]] of inputsOf(option.inputs ?? {})) {
      const path = `${key}_${name}`;
      const tooltip = texts[path]?.tooltip;
      if (opened && tooltip) opened.tooltip = tooltip;
      translateOpened(texts, path, opened);
    }
  }
}
