// Notes each host and port that the process connects to, and lets it reach only this machine.
'use strict';

const net = require('node:net');

const connect = net.Socket.prototype.connect;
const connections = new Set();
const sockets = new Set();
let cut = '';

net.Socket.prototype.connect = function (...given) {
  const [options] = Array.isArray(given[0]) ? given[0] : net._normalizeArgs(given);
  const host = options.host ?? 'localhost';
  connections.add(`${host}:${options.port}`);
  sockets.add(this.once('close', () => sockets.delete(this)));
  if (cut === 'silent') return this;
  if (cut !== 'refused' && ['127.0.0.1', 'localhost'].includes(host)) return connect.apply(this, given);
  process.nextTick(() => this.destroy(new Error(`no connection to ${host} in a test`)));
  return this;
};

// Returns those since the last call, sorted.
exports.taken = () => {
  const taken = [...connections].sort();
  connections.clear();
  return taken;
};

// From now on, connections are 'refused' or 'silent', also those that there are; or all is as before: ''.
exports.cut = (how) => {
  cut = how;
  for (const socket of sockets) {
    if (cut === 'refused') socket.destroy();
    if (cut === 'silent') socket.pause();
  }
};
