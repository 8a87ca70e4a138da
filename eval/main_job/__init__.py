"""The main job of `eval/fid.py`: prepared, decoded, measured."""
