FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# GOFIPS140=v1.0.0-c2097c7c builds with the validated cryptographic module.
ARG TARGETOS TARGETARCH VERSION= COMMIT= GOFIPS140=off
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/tokenvend ./cmd/tokenvend

FROM scratch
ARG VERSION= COMMIT=
LABEL org.opencontainers.image.title="tokenvend" \
      org.opencontainers.image.description="Issues short-lived Sethealth tokens to signed-in users" \
      org.opencontainers.image.source="https://github.com/sethealth/tokenvend" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/tokenvend /tokenvend
# Numeric, so that Kubernetes sees that it is not root: the image has no passwd file.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/tokenvend", "healthcheck"]
ENTRYPOINT ["/tokenvend"]
