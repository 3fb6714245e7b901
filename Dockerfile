# A static program in an empty image, run as a user.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make perl
WORKDIR /src
COPY . .
RUN cargo build --release --locked && mkdir -p /out/etc/keyward /out/data && cp target/release/keyward /out/keyward

FROM scratch
COPY --from=build /out/keyward /keyward
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# What outlives the container: `[storage] pepper = "file:/data/pepper"`. The folder of the configuration is not this user's.
WORKDIR /data
VOLUME /data
ENV KEYWARD_CONFIG=/etc/keyward/keyward.toml KEYWARD_ADMIN_URL=http://127.0.0.1:8081
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/keyward", "healthcheck"]
ENTRYPOINT ["/keyward"]
CMD ["serve"]
