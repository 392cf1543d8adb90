"""Write a model as a page that recognises in the browser: ``littlefoot export MODEL -o site/ --to web``.

``static/`` has the page; ``littlefoot.wasm`` and ``littlefoot-relaxed.wasm`` are liblittlefoot as
``scripts/build_wasm.py`` compiles it.
"""
