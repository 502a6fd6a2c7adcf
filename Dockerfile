# CIST Studio in a container; docs/deploy.md says how to run it.
#
#   docker build -t cist-studio .                                   networks run on the CPU
#   docker build -t cist-studio:cuda --build-arg VARIANT=cuda .     networks run on an NVIDIA GPU
#
# Other choices: --build-arg EXTRAS=studio,auth,timm,hf,onnx leaves out what nobody needs, and TORCH_INDEX names another
# index of PyTorch wheels, such as https://download.pytorch.org/whl/cu126 for an older driver.
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

ARG VARIANT=cpu
ARG TORCH_INDEX=
ARG EXTRAS=studio,auth,timm,hf,onnx

# A virtual environment of its own, so that the same lines work on any image that has Python.
ENV PATH=/opt/studio/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/studio

# The largest layer first: it stays when the project's own files change. PyPI's wheels of torch bring CUDA, 4 GB of it.
RUN case "$VARIANT" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "VARIANT is cpu or cuda, but got '$VARIANT'" >&2; exit 2 ;; \
    esac \
    && pip install --index-url "${TORCH_INDEX:-$index}" torch torchvision

WORKDIR /studio
COPY pyproject.toml README.md LICENSE ./
COPY cist_core cist_core
COPY app app
COPY pages pages
COPY sample_models sample_models
# A clone may be readable by its owner alone, and the program runs as somebody else.
RUN pip install --editable ".[$EXTRAS]" && chmod -R a+rX .

# Nothing that runs may change the program: its files stay root's, and people's are under /data.
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin studio \
    && mkdir -p /data/cache /data/sets /data/runs /data/added \
    && chown -R studio:studio /data
USER studio
ENV CIST_CACHE=/data/cache \
    CIST_DATA=/data/sets \
    CIST_RUNS=/data/runs \
    CIST_ADDED=/data/added \
    NUMBA_CACHE_DIR=/data/cache/numba \
    HF_HOME=/data/cache/hf \
    TORCH_HOME=/data/cache/torch \
    PORT=8501
VOLUME ["/data/cache", "/data/sets", "/data/runs", "/data/added"]

EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD python -c \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:$PORT$STREAMLIT_SERVER_BASE_URL_PATH/_stcore/health', timeout=4)"

# All addresses, because this is the container's own network: what is published decides who reaches it.
CMD ["sh", "-c", "exec streamlit run app/server.py --server.address 0.0.0.0 --server.port \"$PORT\""]
