"use strict";

/** Log a warning, which Lambda sends to CloudWatch Logs. */
function log(text) {
  console.warn(`flagstore: ${text}`);
}

module.exports = { log };
