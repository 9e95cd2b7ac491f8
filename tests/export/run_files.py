"""Runs .tflite files in a process of its own, which a crash of the runtime ends: python run_files.py FILE.tflite IMAGES.npy ...

Writes FILE.npz: for each image the outputs by name of the Interpreter ("interpreter/boxes") and of CompiledModel.
"""

import sys

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter


def interpreted(file, images):
  model = Interpreter(model_path=file)
  run = model.get_signature_runner()
  (name,) = run.get_input_details()
  results = [run(**{name: image[None]}) for image in images]
  return {name: np.concatenate([r[name] for r in results]) for name in results[0]}


def compiled(file, images):
  model = CompiledModel.from_file(file)
  ((signature, sides),) = model.get_signature_list().items()
  inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
  results = []
  for image in images:
    inputs[0].write(np.ascontiguousarray(image[None]))
    model.run_by_index(0, inputs, outputs)
    details = model.get_output_tensor_details(signature)
    shapes = {name: tuple(details[name]["shape"]) for name in sides["outputs"]}
    read = [buffer.read(int(np.prod(shape)), np.float32) for buffer, shape in zip(outputs, shapes.values(), strict=True)]
    results.append({name: values.reshape(shapes[name]) for name, values in zip(shapes, read, strict=True)})
  return {name: np.concatenate([r[name] for r in results]) for name in results[0]}


if __name__ == "__main__":
  for file, images in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    shown = np.load(images)
    found = {f"interpreter/{name}": values for name, values in interpreted(file, shown).items()}
    found |= {f"compiled/{name}": values for name, values in compiled(file, shown).items()}
    np.savez(file.removesuffix(".tflite") + ".npz", **found)
