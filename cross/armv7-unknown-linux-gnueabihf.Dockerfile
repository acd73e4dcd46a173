FROM debian:bookworm-slim
RUN apt-get update && \
    apt-get install --assume-yes --no-install-recommends gcc libc6-dev gcc-arm-linux-gnueabihf libc6-dev-armhf-cross && \
    rm -rf /var/lib/apt/lists/*
ENV CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc \
    CC_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc
