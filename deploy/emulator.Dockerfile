# The emulator of Sethealth's token endpoint, for compose.yaml. Its tokens open nothing.
FROM golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/sethealth-emulator ./cmd/sethealth-emulator

FROM scratch
COPY --from=build /out/sethealth-emulator /sethealth-emulator
USER 65532:65532
ENTRYPOINT ["/sethealth-emulator"]
