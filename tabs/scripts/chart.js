// Draws a lesson's chart with BokehJS. A frame has the arrays that differ from the base, the first frame of its run, so
// that any frame may be dropped.
import { language } from "./texts.js";

/** @type {Promise<any> | undefined} */
let loading; // all charts share one script

/**
 * @param {string} url
 * @returns {Promise<any>}
 */
function loadBokeh(url) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => {
      window.Bokeh.set_log_level("error"); // it warns about every chart without data
      resolve(window.Bokeh);
    };
    script.onerror = () => {
      loading = undefined; // so that the next chart tries again
      reject(new Error("BokehJS did not load"));
    };
    document.head.append(script);
  });
  return loading;
}

/**
 * @param {Record<string, string>} encoded
 * @returns {Arrays}
 */
export function decodeAll(encoded) {
  return Object.fromEntries(Object.entries(encoded).map(([name, text]) => [name, decode(name, text)]));
}

/**
 * @param {string} name
 * @param {string} text - base64
 */
function decode(name, text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return name.endsWith(".bytes") ? bytes : new Float32Array(bytes.buffer);
}

/**
 * A heat map's values, one byte each, as the 2D array that Bokeh's image glyph takes.
 *
 * @param {Uint8Array} bytes
 * @param {Float32Array} shape - rows and columns
 * @param {{low: number, high: number}} range
 */
function image(bytes, [rows, columns], { low, high }) {
  const { ndarray } = window.Bokeh.require("core/util/ndarray");
  const values = Float32Array.from(bytes, (byte) => low + (byte / 255) * (high - low));
  return ndarray(values, { dtype: "float32", shape: [rows, columns] });
}

export class Chart {
  /**
   * @param {HTMLElement} live - the element with data-lesson
   * @param {HTMLElement} panels
   */
  constructor(live, panels) {
    this.live = live;
    this.panels = panels;
    /** @type {any[]} */
    this.figures = []; // one for each panel: {model, scales, labels, tooltips, legend}
    new MutationObserver(() => this.paint()).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  /**
   * Build the panels from the JSON of a chart without arrays.
   *
   * @param {string} structure
   */
  async build(structure) {
    const Bokeh = await loadBokeh(this.live.dataset.bokeh ?? "");
    const parts = JSON.parse(structure);
    this.panels.dataset.count = parts.length;
    this.panels.replaceChildren();
    this.figures = [];
    for (const { document: item, ...rest } of parts) {
      const section = document.createElement("section");
      const heading = document.createElement("h3");
      const legend = document.createElement("ul");
      const plot = document.createElement("div");
      heading.innerHTML = rest.title;
      legend.className = "live-legend";
      legend.append(...rest.legend.map(entry));
      plot.className = "live-plot notranslate"; // Bokeh draws its text, so it must not be translated
      plot.translate = false;
      plot.setAttribute("role", "img");
      section.append(heading, legend, plot);
      this.panels.append(section);
      const views = await Bokeh.embed.embed_item(item, plot);
      this.figures.push({ ...rest, legend, model: [...views][0].model });
    }
    this.paint();
    this.translate();
  }

  /** Set the chart's texts in the page's language; all other texts are HTML in both languages. */
  translate() {
    for (const { model, labels, tooltips } of this.figures) {
      model.below[0].axis_label = labels[0][language()];
      model.left[0].axis_label = labels[1][language()];
      for (const tool of model.toolbar.tools) tool.tooltips = tooltips[tool.name]?.[language()] ?? tool.tooltips;
    }
  }

  /** Set the page's colors, light or dark. */
  paint() {
    const style = getComputedStyle(document.body);
    /** @param {string} name */
    const color = (name) => style.getPropertyValue(name).trim();
    const text = color("--body-text-color");
    const line = color("--border-color-primary");
    const background = color("--background-fill-primary");
    const scheme = document.body.classList.contains("dark") ? "dark" : "light";
    this.live.dataset.scheme = scheme;
    this.figures.forEach(({ model, scales }, p) => {
      model.setv({ background_fill_color: background, border_fill_color: background, outline_line_color: null });
      for (const axis of [...model.below, ...model.left]) {
        axis.setv({
          axis_label_text_color: text,
          axis_label_text_font_style: "normal",
          major_label_text_color: text,
          axis_line_color: line,
          major_tick_line_color: line,
          minor_tick_line_color: null,
        });
      }
      for (const grid of model.center.filter(isGrid)) grid.setv({ grid_line_color: line, grid_line_alpha: 0.6 });
      for (const [m, scale] of Object.entries(scales)) {
        const renderer = model.renderers.find((/** @type {any} */ each) => each.data_source.name === `${p}.${m}`);
        renderer.glyph.color_mapper.palette = scale[scheme];
      }
    });
  }

  /** @param {Arrays} arrays - all arrays of a frame */
  draw(arrays) {
    this.figures.forEach(({ model, legend }, p) => {
      for (const axis of ["x_range", "y_range"]) {
        const limits = arrays[`${p}.${axis}`];
        if (limits) model[axis].setv({ start: limits[0], end: limits[1] });
      }
      const items = [...legend.children];
      for (const item of items) item.hidden = arrays[`${p}.${item.dataset.mark}.x`]?.length === 0;
      legend.hidden = items.filter((item) => !item.hidden).length < 2; // the title names a single mark
      for (const { data_source: source, glyph } of model.renderers) {
        const fields = Object.keys(arrays).filter((name) => name.startsWith(`${source.name}.`));
        /** @type {Record<string, any>} */
        const data = Object.fromEntries(fields.map((name) => [name.slice(source.name.length + 1), arrays[name]]));
        if (data.bytes) {
          data.image = [image(data.bytes, data.size, glyph.color_mapper)];
          delete data.bytes;
          delete data.size;
        }
        source.data = data;
      }
    });
  }

  /**
   * Describe each panel to screen readers.
   *
   * @param {string} text
   */
  describe(text) {
    for (const plot of this.panels.querySelectorAll(".live-plot")) {
      const title = plot.parentElement?.querySelector("h3")?.innerText ?? "";
      plot.setAttribute("aria-label", `${title}. ${text}`);
    }
  }
}

/** @param {{type: string}} model */
const isGrid = ({ type }) => type === "Grid";

/** @param {{mark: string, html: string, sign: string}} description */
function entry({ mark, html, sign }) {
  const item = document.createElement("li");
  item.dataset.mark = mark;
  item.innerHTML = `<i></i>${html}`;
  if (item.firstElementChild instanceof HTMLElement) item.firstElementChild.style.cssText = sign;
  return item;
}
