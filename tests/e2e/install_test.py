"""The installed tree, as somebody sees it who has nothing else: CMake, pkg-config, sonames, the launcher."""
import os
import re
import shutil
import unittest

import harness
from harness import BIN, Case, run, words

CONSUMER = harness.SOURCES / "tests/e2e/consumer"


class Installed(Case):
    def setUp(self):
        super().setUp()
        self.prefix = self.folder / "prefix"
        self.succeed("cmake", "--install", BIN.parent, "--prefix", self.prefix)

    def test_find_package_builds_a_separate_project_that_runs_on_two_ranks(self):
        build = self.folder / "build"
        self.succeed("cmake", "-S", CONSUMER, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.succeed("cmake", "--build", build, "-j1")
        ddprun = self.prefix / "bin/ddprun"
        result = self.succeed(ddprun, "--nproc-per-node", 2, build / "consumer", cwd=self.folder)
        self.assertIn("gradient 2 on rank 1 of 2", result.out)
        result = self.succeed(ddprun, "--nproc-per-node", 3, build / "torch_free", cwd=self.folder)
        self.assertEqual(result.out.count("sum over ranks: 3"), 3, result)
        self.assertNotIn("libtorch", self.succeed("ldd", build / "torch_free").out)

    def test_pkg_config_gives_what_a_compiler_needs(self):
        self.need(shutil.which("pkg-config"), "pkg-config is not installed")
        (library,) = self.prefix.glob("**/pkgconfig")
        environment = {**harness.clean_environment(), "PKG_CONFIG_PATH": str(library)}
        for package in ("ddp", "ddp-checkpoint"):
            self.succeed("pkg-config", "--exists", "--print-errors", package, environment=environment)
        flags = self.succeed("pkg-config", "--cflags", "--libs", "ddp-core", environment=environment).out.split()
        program = self.folder / "torch_free"
        self.succeed("g++", CONSUMER / "torch_free.cpp", *flags, "-o", program)
        self.assertIn("sum over ranks: 1", self.succeed(program).out)
        flags = self.succeed("pkg-config", "--cflags", "--libs", "ddp", environment=environment).out.split()
        (self.folder / "init.cpp").write_text('#include <ddp/init.h>\nint main() { return ddp::init().rank(); }\n')
        self.succeed("g++", self.folder / "init.cpp", *flags, "-o", self.folder / "init")
        self.succeed(self.folder / "init")

    def test_libraries_have_versioned_sonames_and_name_no_folder_of_the_build(self):
        libraries = sorted(path for path in self.prefix.glob("**/lib*.so") if path.is_symlink())
        self.assertEqual([path.name for path in libraries if path.name != "libddp_mpi.so"],  # only where MPI was found
                         ["libddp.so", "libddp_checkpoint.so", "libddp_checkpoint_format.so", "libddp_comm.so", "libddp_core.so"])
        for library in libraries:
            dynamic = self.succeed("readelf", "-d", library).out
            self.assertRegex(dynamic, rf"SONAME.*\[{re.escape(library.name)}\.\d+\]")
            self.assertNotIn(os.fspath(BIN.parent), dynamic)

    def test_ddprun_and_the_torch_free_libraries_need_no_torch(self):
        for file in (self.prefix / "bin/ddprun", *self.prefix.glob("**/libddp_co*.so"), *self.prefix.glob("**/libddp_checkpoint_format.so")):
            self.assertNotIn("torch", self.succeed("ldd", file).out)


if __name__ == "__main__":
    unittest.main()
