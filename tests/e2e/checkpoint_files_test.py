"""Checkpoints as other programs see them."""
import json
import unittest

from harness import DDPRUN, Case


class Safetensors(Case):
    def test_python_opens_every_file_and_finds_the_model(self):
        try:
            import numpy
            from safetensors import safe_open
        except ImportError as error:
            self.skipTest(f"needs the Python package safetensors: {error}")
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("a"))
        checkpoints = self.folder / "a" / "checkpoints"
        newest = checkpoints / json.loads((checkpoints / "latest").read_text())["folder"]
        manifest = json.loads((newest / "manifest.json").read_text())
        shapes = {}
        for file in manifest["files"]:
            with safe_open(newest / file["name"], framework="numpy") as tensors:
                self.assertEqual(tensors.metadata()["step"], "5")
                for name in tensors.keys():
                    array = tensors.get_tensor(name)
                    if array.dtype == numpy.float32:
                        self.assertTrue(numpy.isfinite(array).all(), name)
                    shapes[name] = array.shape
        self.assertEqual(len(manifest["files"]), 2)
        self.assertEqual(shapes["model/token_embedding.weight"], (256, 16))
        self.assertIn("optimizer/group.0/state/model/token_embedding.weight/exp_avg", shapes)


if __name__ == "__main__":
    unittest.main()
