"""What a package is installed by, where that is not the name that it is imported by."""

from __future__ import annotations

_INSTALLED_BY = {
    "Bio": "biopython", "Crypto": "pycryptodome", "IPython": "ipython", "Levenshtein": "python-Levenshtein", "MySQLdb": "mysqlclient",
    "OpenGL": "PyOpenGL", "OpenSSL": "pyOpenSSL", "PIL": "pillow", "absl": "absl-py", "ale_py": "ale-py", "attr": "attrs",
    "box2d": "box2d-py", "bs4": "beautifulsoup4", "community": "python-louvain", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "docx": "python-docx", "dotenv": "python-dotenv", "faiss": "faiss-cpu", "fitz": "pymupdf", "git": "GitPython",
    "google.protobuf": "protobuf", "hydra": "hydra-core", "jwt": "PyJWT",
    "lightning_fabric": "lightning-fabric", "magic": "python-magic", "mpl_toolkits": "matplotlib", "osgeo": "gdal",
    "pkg_resources": "setuptools", "psycopg2": "psycopg2-binary", "pytorch_lightning": "pytorch-lightning",
    "ruamel": "ruamel.yaml", "sentence_transformers": "sentence-transformers", "serial": "pyserial", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "skopt": "scikit-optimize", "stable_baselines3": "stable-baselines3", "torch_geometric": "torch-geometric",
    "umap": "umap-learn", "usb": "pyusb", "wx": "wxPython", "yaml": "PyYAML", "zmq": "pyzmq",
}  # fmt: skip


def distribution(module: str) -> str:
    """Return the name that pip installs an imported module by, as far as it is known; else that of its topmost package.

    Args:
        module: as in `import module`, with its dots.

    Example:
        >>> distribution("cv2"), distribution("sklearn.svm"), distribution("google.protobuf.message"), distribution("numpy.linalg")
        ('opencv-python', 'scikit-learn', 'protobuf', 'numpy')
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = _INSTALLED_BY.get(".".join(parts[:length]))
        if found is not None:
            return found
    return parts[0]
