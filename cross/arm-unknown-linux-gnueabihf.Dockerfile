FROM debian:bookworm-slim
COPY cross/requirements.txt /tmp/requirements.txt
COPY cross/armv6-gcc /usr/local/bin/armv6-gcc
RUN apt-get update && \
    apt-get install --assume-yes --no-install-recommends gcc libc6-dev gcc-arm-linux-gnueabihf libc6-dev-armhf-cross python3-pip && \
    rm -rf /var/lib/apt/lists/* && \
    pip install --no-cache-dir --break-system-packages -r /tmp/requirements.txt
ENV CARGO_TARGET_ARM_UNKNOWN_LINUX_GNUEABIHF_LINKER=armv6-gcc \
    CC_arm_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc
