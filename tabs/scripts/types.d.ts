// Types of the page's scripts, for `make scripts`. They are global: a JSDoc comment uses them without an import.

interface Window {
  Bokeh: any; // BokehJS, which has no types
  liveNetsLoaded: (page: object) => void; // resolves the promise for which js_on_load waits
}

interface HTMLElementEventMap {
  judged: CustomEvent<Record<string, Verdict>>; // the server's verdicts on the settings of a lesson
  freed: CustomEvent<Record<string, boolean>>; // whether each of them can be changed now
}

// Arguments of js_on_load of gr.HTML.
declare namespace Gradio {
  type Props = Record<string, any>;
  type Watch = (names: string | string[], callback: () => void) => void;
  type Trigger = (event: string, data?: Record<string, unknown>) => void;
}

type Language = "en" | "zh";
type Bilingual = Record<Language, string>;
type State = "idle" | "running" | "paused" | "done" | "diverged" | "error";
type Connection = "live" | "away" | "catching-up";
type Settings = Record<string, unknown>; // values of controls, by name
type Arrays = Record<string, Float32Array | Uint8Array>;

interface Change {
  step: number;
  name: string;
  value: unknown;
}

interface Recipe {
  version: number;
  lesson: string;
  settings: Settings;
  changes: Change[];
  stop: number | null;
}

// A frame as the server sends it; `arrays` are base64, those that differ from the base.
interface Frame {
  step: number;
  state: State;
  text: Bilingual;
  metrics: Record<string, number | null>;
  arrays?: Record<string, string>;
  notes: string;
  blocks?: string;
}

// The run that a page shows.
interface ShownRun {
  recipe: Recipe;
  step: number;
  state: State;
  metrics: Record<string, number | null>;
}

interface Verdict {
  typed: unknown;
  matters: boolean;
  value?: unknown;
  refused?: Bilingual;
}

interface Command {
  do: string;
  lesson: string;
  n?: number;
  [field: string]: unknown;
}

// A message from the server; see tabs/open_page.py.
interface Message {
  lesson?: string;
  run?: number;
  page?: string;
  done?: number;
  welcome?: boolean;
  pong?: boolean;
  recipe?: Recipe;
  structure?: string;
  base?: Frame;
  frame?: Frame;
  values?: Settings;
  defaults?: Settings;
  judged?: Record<string, Verdict>;
  same?: boolean;
  problem?: Bilingual;
  left_out?: Bilingual[];
  files?: string;
  text?: string;
  code?: string;
  cards?: string;
  detail?: string;
}
