"""Files as MATLAB writes them with -v7.3."""

import h5py
import numpy as np

HEAD = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"


class Matlab:
    """Writes a file as MATLAB's save(…, '-v7.3') does: axes reversed, texts as numbers, elements elsewhere."""

    def __init__(self, path):
        self.path, self.file, self.kept = path, h5py.File(path, "w", userblock_size=512), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        with self.path.open("r+b") as file:
            file.write(HEAD)

    def put(self, name, value, where=None):
        """Write a variable: array, text, list (a cell array), dict (a struct) or tuple of dicts (a struct array)."""
        where = self.file if where is None else where
        if isinstance(value, dict):
            group = where.create_group(name)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for key, one in value.items():
                self.put(key, one, group)
        elif isinstance(value, tuple):
            group = where.create_group(name)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for key in value[0]:
                refs = np.array([[self.keep(one[key])] for one in value], h5py.ref_dtype)
                group.create_dataset(key, data=refs, dtype=h5py.ref_dtype)
        elif isinstance(value, list):
            refs = np.array([[self.keep(one)] for one in value], h5py.ref_dtype)
            where.create_dataset(name, data=refs, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
        elif isinstance(value, str):
            codes = np.array([[ord(letter)] for letter in value], np.uint16)
            where.create_dataset(name, data=codes).attrs["MATLAB_class"] = np.bytes_("char")
        else:
            values = np.asarray(value)
            logical = values.dtype == bool
            item = where.create_dataset(name, data=values.astype(np.uint8 if logical else values.dtype).T)
            item.attrs["MATLAB_class"] = np.bytes_("logical" if logical else "double")

    def keep(self, value):
        refs = self.file.require_group("#refs#")
        self.kept += 1
        self.put(f"r{self.kept}", value, refs)
        return refs[f"r{self.kept}"].ref
