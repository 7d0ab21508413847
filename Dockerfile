# The postrider binary on an image without shell, package manager or root.
#
#   docker build --build-arg VERSION=v1.2.3 -t postrider .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=devel
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-X main.version=$VERSION" -o /postrider ./cmd/postrider

FROM gcr.io/distroless/static:nonroot
COPY --from=build /postrider /postrider
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/postrider"]
