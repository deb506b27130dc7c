"""Evaluates one flag with Split's SDK as a consumer of Redis."""

import phases  # isort: skip - begins to count

import os
import sys

from splitio import get_factory

port, prefix, flag = sys.argv[1:]
config = {
    "redisHost": "127.0.0.1",
    "redisPort": int(port),
    "redisPrefix": prefix,
    "redisSsl": True,
    "redisSslCaCerts": os.environ["SSL_CERT_FILE"],
    "impressionsMode": "none",
}
factory = get_factory("redis", config=config)
factory.block_until_ready(5)
client = factory.client()

phases.serve(lambda: client.get_treatment("ada", flag, {"plan": "team", "country": "DE"}))
