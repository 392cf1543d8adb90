"""Turn corpora in other formats into manifests: tables, tar shards, Kaldi, lhotse, downloaded folders."""
