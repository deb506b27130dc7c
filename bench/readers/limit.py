"""The limit: one signed GetItem of the same item, by the standard library alone; no evaluation."""

import base64
import hashlib
import hmac
import http.client
import json
import os
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
connection = http.client.HTTPConnection(host, timeout=5)
connection.request("POST", "/", body, headers)
item = json.loads(connection.getresponse().read())["Item"]
json.loads(zlib.decompress(base64.b64decode(item["body"]["B"])))
