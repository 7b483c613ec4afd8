"""The store: tables of rows, the HDF5 file that holds them, and the folders of runs."""
