"""The limit: one signed GetItem over a bare socket with TLS, five roots, JSON; no evaluation.

All of it during INIT: a request finds what it needs in memory.
"""

import phases  # isort: skip - begins to count

import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import time
import zlib

environ = os.environ
region = environ["AWS_DEFAULT_REGION"]
host = environ["AWS_ENDPOINT_URL"].partition("://")[2]
key = {"namespace": {"S": "bench"}, "key": {"S": "all"}}
body = json.dumps({"TableName": environ["FLAGSTORE_TABLE"], "Key": key}).encode()
now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
headers = {
    "content-type": "application/x-amz-json-1.0",
    "host": host,
    "x-amz-date": now,
    "x-amz-target": "DynamoDB_20120810.GetItem",
}
names = ";".join(sorted(headers))
lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
scope = f"{now[:8]}/{region}/dynamodb/aws4_request"
digest = hashlib.sha256(canonical.encode()).hexdigest()
signing = ("AWS4" + environ["AWS_SECRET_ACCESS_KEY"]).encode()
for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"):
    signing = hmac.digest(signing, part.encode(), "sha256")
headers["authorization"] = (
    f"AWS4-HMAC-SHA256 Credential={environ['AWS_ACCESS_KEY_ID']}/{scope}, "
    f"SignedHeaders={names}, Signature={signing.hex()}"
)
lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
name, _, port = host.partition(":")
context = ssl.create_default_context(cafile=os.environ["FIVE_ROOTS"])
with (
    socket.create_connection((name, int(port)), timeout=5) as connected,
    context.wrap_socket(connected, server_hostname=name) as connection,
):
    head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    response = b""
    while b"\r\n\r\n" not in response:
        response += connection.recv(65_536)
    head, _, response = response.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(response) < size:
        response += connection.recv(65_536)
item = json.loads(response)["Item"]
flags = json.loads(zlib.decompress(base64.b64decode(item["body"]["B"])))

phases.serve(lambda: flags and None)
