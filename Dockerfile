# littlefoot serve, without PyTorch:
#
#     docker build -t littlefoot .
#     docker run --rm -p 127.0.0.1:8000:8000 -v littlefoot-models:/models littlefoot
#
# The volume keeps models from the Hub and compiled ones. docs/install.md says more.
FROM python:3.13-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# serve,wyoming alone make an image without an engine: the native kernels run the models.
ARG EXTRAS=openvino,hub,media,serve,wyoming
RUN python -m venv /opt/littlefoot \
    && /opt/littlefoot/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" ./native \
    && /opt/littlefoot/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/littlefoot /opt/littlefoot
RUN useradd --uid 10001 --create-home littlefoot \
    && install --directory --owner littlefoot /models
ENV PATH=/opt/littlefoot/bin:$PATH \
    HF_HOME=/models/huggingface \
    XDG_CACHE_HOME=/models/cache \
    PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /models
VOLUME /models
EXPOSE 8000 10300
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["littlefoot"]
CMD ["serve", "littlefoot-en", "--host", "0.0.0.0", "--allow-host", "localhost"]
