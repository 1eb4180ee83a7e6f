# syntax=docker/dockerfile:1
# The emulator of Sethealth's token endpoint, for compose.yaml. Its tokens open nothing.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/sethealth-emulator ./cmd/sethealth-emulator

FROM scratch
COPY --from=build /out/sethealth-emulator /sethealth-emulator
USER 65532:65532
ENTRYPOINT ["/sethealth-emulator"]
