"""Evaluates one flag with Split's SDK as a consumer of Redis."""

import os
import sys

from splitio import get_factory

port, prefix, flag = sys.argv[1:]
config = {
    "redisHost": "127.0.0.1",
    "redisPort": int(port),
    "redisPrefix": prefix,
    "impressionsMode": "none",
}
factory = get_factory("redis", config=config)
factory.block_until_ready(5)
attributes = {"plan": "team", "country": "DE"}
print(factory.client().get_treatment("ada", flag, attributes))
sys.stdout.flush()
os._exit(0)  # its threads' end is not what is measured
