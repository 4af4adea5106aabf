"""A server whose model explains itself, without torch or tokentm: a picture in, class and map out.

    python examples/serve_onnx.py model.onnx 8000
    curl --data-binary @picture.png localhost:8000

The file knows how pictures are prepared if it was made with one: ``tokentm.export_onnx(model, "model.onnx", picture)``.
"""

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])
told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
classes = session.get_inputs()[1].shape[1]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        picture = Image.open(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))).convert("RGB")
        pixels = np.asarray(picture.resize(told["image_size"][::-1])) / 255
        image = ((pixels - told["mean"]) / told["std"]).transpose(2, 0, 1)[None].astype("float32")
        logits = session.run(["logits"], {"image": image, "target": np.zeros((1, classes), "float32")})[0]
        target = np.eye(classes, dtype="float32")[logits.argmax(1)]
        scores = session.run(["scores"], {"image": image, "target": target})[0].reshape(told["grid"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"class": int(logits.argmax()), "map": scores.tolist()}).encode())


HTTPServer(("localhost", int(sys.argv[2])), Handler).serve_forever()
