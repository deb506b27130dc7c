// Notes each host and port that the process connects to, and lets it reach only this machine.
'use strict';

const net = require('node:net');

const connect = net.Socket.prototype.connect;
const connections = new Set();

net.Socket.prototype.connect = function (...given) {
  const [options] = Array.isArray(given[0]) ? given[0] : net._normalizeArgs(given);
  const host = options.host ?? 'localhost';
  connections.add(`${host}:${options.port}`);
  if (['127.0.0.1', 'localhost'].includes(host)) return connect.apply(this, given);
  process.nextTick(() => this.destroy(new Error(`no connection to ${host} in a test`)));
  return this;
};

// Returns those since the last call, sorted.
exports.taken = () => {
  const taken = [...connections].sort();
  connections.clear();
  return taken;
};
