"use strict";

// Starts, and evaluates nothing: what Node.js itself takes.

require("./phases.cjs").serve(() => null);
