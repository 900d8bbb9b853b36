# Two images, built by `make image` (omr/containers/image.py), which takes every argument below from docker/pins.env:
#
#   tools  small: data, model, average, eval and the one-box engine
#   train  the pinned NeMo-RL image with our files and a venv of ours beside its own, which stay as they are
#
# Nothing here needs BuildKit. What a site adds to a build (certificates, pip's configuration with perhaps a password
# in it, wheels, a source of nemo-skills: build/site) is copied into stages that only build; no layer of an image has
# it. The locks come first and the code last, so that a change of the code alone builds in seconds.

ARG TOOLS_BASE
ARG TRAIN_BASE

# ---- tools ----

# hadolint ignore=DL3006
FROM ${TOOLS_BASE} AS python
SHELL ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c"]
ARG APT_MIRROR=
# The base's digest and its distribution decide the packages' versions; an archive keeps no old ones to pin.
# hadolint ignore=DL3008
RUN cp -a /etc/apt /tmp/apt; \
    if [ -n "$APT_MIRROR" ]; then \
        find /etc/apt \( -name '*.list' -o -name '*.sources' \) -exec sed -Ei "s#https?://[^ ]+#$APT_MIRROR#" {} +; \
    fi; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        bubblewrap ca-certificates python3 python3-venv; \
    rm -rf /etc/apt /var/lib/apt/lists/* /var/log/*; \
    mv /tmp/apt /etc/apt
# Text is UTF-8, whatever the caller's locale.
ENV LANG=C.UTF-8

FROM python AS tools-venv
SHELL ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c"]
WORKDIR /opt/omr
ENV OMR_VENV=/opt/omr/venv PIP_CONFIG_FILE=/opt/omr/build/site/pip.conf PIP_NO_CACHE_DIR=1
COPY docker/venv docker/nemo_source docker/pins.env docker/cli.lock docker/data.lock docker/
COPY build/site/ build/site/
RUN docker/venv data
ARG NEMO_SKILLS_FROM
COPY docker/image_nemo docker/
RUN docker/image_nemo "$NEMO_SKILLS_FROM"
COPY docker/train.lock docker/
ARG TOOLS_TIER
RUN docker/venv "$TOOLS_TIER"

FROM python AS tools
SHELL ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c"]
WORKDIR /opt/omr
COPY --from=tools-venv /opt/omr/venv venv/
# What the image itself puts into the environment: docker/entry.sh lets .env win over it.
RUN env | grep -viE '_proxy=|^(HOME|HOSTNAME|OLDPWD|PWD|SHLVL|TERM|_)=' >image.env
COPY pyproject.toml LICENSE ./
COPY bin bin/
COPY docker docker/
COPY slurm slurm/
COPY omr omr/
ENTRYPOINT ["/opt/omr/docker/entry.sh"]
CMD ["bash"]
ARG NEMO_SKILLS_COMMIT
ARG NEMO_SKILLS_FROM
ARG TORCH_VERSION
ARG TOOLS_TIER
ARG TOOLS_BASE_NAME
ARG TOOLS_BASE_DIGEST
ARG OMR_CODE
ARG OMR_LOCKS
ARG OMR_REVISION
ENV OMR_IMAGE="tools tier=$TOOLS_TIER nemo-skills=$NEMO_SKILLS_FROM" OMR_REVISION=$OMR_REVISION OMR_IMAGE_LOCKS=$OMR_LOCKS
LABEL org.opencontainers.image.title="OpenMathReasoning recipe: tools" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="$OMR_REVISION" \
    org.opencontainers.image.base.name="$TOOLS_BASE_NAME" \
    org.opencontainers.image.base.digest="$TOOLS_BASE_DIGEST" \
    omr.code="$OMR_CODE" \
    omr.tier="$TOOLS_TIER" \
    omr.torch="$TORCH_VERSION" \
    omr.nemo-skills="$NEMO_SKILLS_COMMIT from $NEMO_SKILLS_FROM"

# ---- train ----

# hadolint ignore=DL3006
FROM ${TRAIN_BASE} AS train-venv
SHELL ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c"]
WORKDIR /opt/omr
# Its own Python, and nothing of what its pip is told to hold its own packages at.
ENV PYTHON=/opt/nemo_rl_venv/bin/python PIP_CONSTRAINT= \
    OMR_VENV=/opt/omr/venv PIP_CONFIG_FILE=/opt/omr/build/site/pip.conf PIP_NO_CACHE_DIR=1
COPY docker/venv docker/nemo_source docker/pins.env docker/cli.lock docker/data.lock docker/
COPY build/site/ build/site/
RUN docker/venv data
ARG NEMO_SKILLS_FROM
COPY docker/image_nemo docker/
RUN docker/image_nemo "$NEMO_SKILLS_FROM"

# hadolint ignore=DL3006
FROM ${TRAIN_BASE} AS train
SHELL ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c"]
ARG APT_MIRROR=
# bubblewrap isolates what a model's code does. The image's Python and uv live below /root: another user has to
# pass through it.
# hadolint ignore=DL3008
RUN cp -a /etc/apt /tmp/apt; \
    if [ -n "$APT_MIRROR" ]; then \
        find /etc/apt \( -name '*.list' -o -name '*.sources' \) -exec sed -Ei "s#https?://[^ ]+#$APT_MIRROR#" {} +; \
    fi; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends bubblewrap; \
    rm -rf /etc/apt /var/lib/apt/lists/* /var/log/apt; \
    mv /tmp/apt /etc/apt; \
    chmod go+x /root
COPY --from=train-venv /opt/omr/venv /opt/omr/venv/
RUN env | grep -viE '_proxy=|^(HOME|HOSTNAME|OLDPWD|PWD|SHLVL|TERM|_)=' >/opt/omr/image.env
COPY pyproject.toml LICENSE /opt/omr/
COPY bin /opt/omr/bin/
COPY docker /opt/omr/docker/
COPY slurm /opt/omr/slurm/
COPY omr /opt/omr/omr/
ENTRYPOINT ["/opt/omr/docker/entry.sh"]
CMD ["bash"]
ARG NEMO_SKILLS_COMMIT
ARG NEMO_SKILLS_FROM
ARG NEMO_RL_VERSION
ARG TRAIN_BASE_NAME
ARG TRAIN_BASE_DIGEST
ARG OMR_CODE
ARG OMR_LOCKS
ARG OMR_REVISION
ENV OMR_IMAGE="train tier=data nemo-skills=$NEMO_SKILLS_FROM" OMR_REVISION=$OMR_REVISION OMR_IMAGE_LOCKS=$OMR_LOCKS
LABEL org.opencontainers.image.title="OpenMathReasoning recipe: NeMo-RL" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="$OMR_REVISION" \
    org.opencontainers.image.base.name="$TRAIN_BASE_NAME" \
    org.opencontainers.image.base.digest="$TRAIN_BASE_DIGEST" \
    omr.code="$OMR_CODE" \
    omr.tier="data" \
    omr.nemo-rl="$NEMO_RL_VERSION" \
    omr.nemo-skills="$NEMO_SKILLS_COMMIT from $NEMO_SKILLS_FROM"
