// Not *.js, so that it is no script of the page. `make scripts` installs its packages in .venv/lint.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.venv/lint/", import.meta.url));
const js = require("@eslint/js");
const globals = require("globals");

// Properties of window that are easily meant as variables: with them, no-undef would miss a forgotten declaration.
const CONFUSING = ["close", "event", "find", "length", "name", "open", "parent", "print", "status", "stop", "top"];

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-restricted-globals": ["error", ...CONFUSING],
      "no-throw-literal": "error",
      "no-unused-expressions": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
