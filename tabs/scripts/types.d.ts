// Types of what the scripts are given, for `make scripts`. They are global: a JSDoc comment uses them without an import.

interface Window {
  Bokeh: any; // BokehJS, which has no types
}

// Arguments of js_on_load of gr.HTML.
declare namespace Gradio {
  type Props = Record<string, any>;
  type Watch = (names: string | string[], callback: () => void) => void;
  type Trigger = (event: string, data?: Record<string, unknown>) => void;
}
