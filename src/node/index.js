"use strict";

const errors = require("./lib/errors.js");
const { Client, client } = require("./lib/client.js");
const { Snapshot } = require("./lib/snapshot.js");

module.exports = { client, Client, Snapshot, ...errors };
