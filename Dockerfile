# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION= COMMIT=
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/tokenvend ./cmd/tokenvend

FROM scratch
ARG VERSION= COMMIT=
LABEL org.opencontainers.image.title="tokenvend" \
      org.opencontainers.image.description="Hands short-lived Sethealth tokens to signed-in users" \
      org.opencontainers.image.source="https://github.com/sethealth/tokenvend" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/tokenvend /tokenvend
# Numeric, so that Kubernetes can see that it is not root. There is no passwd file.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/tokenvend", "healthcheck"]
ENTRYPOINT ["/tokenvend"]
