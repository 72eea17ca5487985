# The image of agent, workers and control plane, for amd64 and arm64. `make image` builds it; docs/install.md says how
# it is used. It has LLVM, inside libbpfcc, which compiles the kernel programs on the node, but no compiler beside it.
ARG DEBIAN=debian:12-slim

FROM ${DEBIAN} AS runtime
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends libnghttp2-14 python3 python3-bpfcc \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log /usr/share/doc /usr/share/man
# By hand: useradd warns of a uid beyond those of people.
RUN echo 'meshd:x:65532:65532::/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
 && echo 'meshd:x:65532:' >>/etc/group

FROM runtime AS build
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
# hdrhistogram has wheels for amd64 only: elsewhere it is compiled, here, where the compiler stays behind.
RUN if [ "$(dpkg --print-architecture)" != amd64 ]; then \
      DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        gcc libc6-dev python3-dev python3-pbr python3-setuptools python3-wheel \
      && echo "--no-build-isolation --no-binary hdrhistogram" >/pip-options; \
    else : >/pip-options; fi
WORKDIR /src
COPY requirements-image.lock ./
# Else wheels only: what has to be compiled would differ from build to build.
RUN python3 -m venv --system-site-packages /opt/meshd \
 && /opt/meshd/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      $(cat /pip-options) -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY bpf bpf
COPY meshd meshd
COPY proxy proxy
RUN /opt/meshd/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels . \
 && /opt/meshd/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index /wheels/*.whl \
 && /opt/meshd/bin/pip uninstall --yes --quiet pip setuptools \
 && find /opt/meshd -depth -type d -name tests -exec rm -rf {} +

FROM runtime
COPY --from=build /opt/meshd /opt/meshd
ENV PATH=/opt/meshd/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
# The control plane needs no rights. The agent's pod says itself that it runs as root.
USER 65532:65532
ENTRYPOINT ["meshd"]
CMD ["--help"]
