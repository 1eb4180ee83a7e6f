# The emulator of Sethealth's token endpoint, for development and CI. Its tokens open nothing.
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -o /out/sethealth-emulator ./cmd/sethealth-emulator

FROM scratch
COPY --from=build /out/sethealth-emulator /sethealth-emulator
USER 65532:65532
ENTRYPOINT ["/sethealth-emulator"]
# Its control port stays on loopback.
CMD ["-addr", ":8090", "-listen-anywhere"]
EXPOSE 8090
