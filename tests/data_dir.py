"""Loaded before the settings are: tests write to a folder of their own, never to the shop's."""

import atexit
import os
import shutil
import tempfile

os.environ["SEARCHSITE_DATA_DIR"] = _folder = tempfile.mkdtemp(prefix="searchsite-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
