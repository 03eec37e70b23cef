// Screens for models that are no classifiers: a picture out, boxes, or plain numbers.

import CoreImage
import PhotosUI
import SwiftUI

/// Picks a photo and hands what the model sees of it to ``content``, with the model's answer.
private struct Picker<Content: View>: View {
    let plan: Plan
    @ViewBuilder let content: (Raster, Answer) -> Content
    @State private var picked: PhotosPickerItem?
    @State private var result: (Raster, Answer)?
    @State private var problem: String?

    var body: some View {
        NavigationStack {
            ScrollView {
                VStack(spacing: 16) {
                    if let result { content(result.0, result.1) }
                    if let problem { Text(problem).foregroundStyle(.red) }
                }
                .padding()
            }
            .navigationTitle(plan.title)
            .toolbar {
                PhotosPicker(selection: $picked, matching: .images) { Label("Choose a photo", systemImage: "photo") }
            }
        }
        .task(id: picked) { await predict() }
    }

    private func predict() async {
        do {
            let raster: Raster
            if let picked {
                guard let data = try await picked.loadTransferable(type: Data.self) else { return }
                raster = Picture.fit(try Picture.decode(data), plan.feeding)
            } else if let photo = plan.photos.first {
                raster = try Picture.decode(Plan.resource(photo.seen))
            } else {
                return
            }
            result = (raster, try await Predictor(plan: plan, processor: .neuralEngine).predict(raster))
            problem = nil
        } catch {
            problem = error.localizedDescription
        }
    }
}

/// Image to image: the picture that went in and the one that came out.
struct ImageScreen: View {
    let plan: Plan

    var body: some View {
        Picker(plan: plan) { raster, answer in
            SeenPicture(image: Picture.image(raster))
            Image(systemName: "arrow.down").accessibilityHidden(true)
            SeenPicture(image: made(answer))
        }
    }

    private func made(_ answer: Answer) -> UIImage? {
        if let buffer = answer.image {
            let image = CIImage(cvPixelBuffer: buffer)
            return CIContext().createCGImage(image, from: image.extent).map { UIImage(cgImage: $0) }
        }
        return plan.outputs.first.flatMap { Planes.image(answer.outputs[$0.name] ?? [], shape: $0.shape) }
    }
}

/// Boxes over the picture: outputs whose last axis is 4 are boxes, one with as many rows their scores.
struct DetectionScreen: View {
    let plan: Plan
    private let threshold: Float = 0.5

    var body: some View {
        Picker(plan: plan) { raster, answer in
            SeenPicture(image: Picture.image(raster)).overlay {
                GeometryReader { space in
                    ForEach(boxes(answer).indices, id: \.self) { i in
                        let box = boxes(answer)[i]
                        Rectangle().stroke(.yellow, lineWidth: 2)
                            .frame(width: box.width * space.size.width, height: box.height * space.size.height)
                            .offset(x: box.minX * space.size.width, y: box.minY * space.size.height)
                    }
                }
            }
            ArrayTable(plan: plan, answer: answer)
        }
    }

    private func boxes(_ answer: Answer) -> [CGRect] {
        guard let output = plan.outputs.first(where: { $0.shape.last == 4 }), let flat = answer.outputs[output.name] else { return [] }
        let count = flat.count / 4
        let scores = plan.outputs.first { $0.name != output.name }.flatMap { answer.outputs[$0.name] } ?? []
        let width = scores.isEmpty ? 0 : scores.count / max(count, 1)
        let likely = (0..<count).filter { width > 0 ? scores[$0 * width + width - 1] > threshold : false }
        return likely.prefix(50).map { i in
            let (x0, y0, x1, y1) = (flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3])
            return CGRect(x: CGFloat(x0), y: CGFloat(y0), width: CGFloat(x1 - x0), height: CGFloat(y1 - y0))
        }
    }
}

/// Plain numbers: name, shape, range and the first values of each output.
struct ArrayScreen: View {
    let plan: Plan

    var body: some View {
        Picker(plan: plan) { raster, answer in
            SeenPicture(image: Picture.image(raster))
            ArrayTable(plan: plan, answer: answer)
        }
    }
}

private struct ArrayTable: View {
    let plan: Plan
    let answer: Answer

    var body: some View {
        VStack(alignment: .leading, spacing: 12) {
            ForEach(answer.outputs.keys.sorted(), id: \.self) { name in
                let values = answer.outputs[name] ?? []
                VStack(alignment: .leading, spacing: 2) {
                    Text(name).font(.headline)
                    Text("\(values.count) values from \(values.min() ?? 0) to \(values.max() ?? 0)").font(.subheadline)
                    Text(values.prefix(8).map { "\($0)" }.joined(separator: "  ")).font(.footnote.monospaced())
                }
                .accessibilityElement(children: .combine)
            }
        }
    }
}

enum Planes {
    /// [1, C, H, W] values as a picture, stretched over the range that they have.
    static func image(_ values: [Float], shape: [Int]) -> UIImage? {
        guard shape.count >= 2, let low = values.min(), let high = values.max(), high > low else { return nil }
        let (height, width) = (shape[shape.count - 2], shape[shape.count - 1])
        let planes = values.count / (height * width)
        guard planes > 0 else { return nil }
        var pixels = [UInt8](repeating: 0, count: height * width * Raster.channels)
        for place in 0..<(height * width) {
            for c in 0..<Raster.channels {
                let value = values[min(c, planes - 1) * height * width + place]
                pixels[place * Raster.channels + c] = UInt8(max(0, min(255, 255 * (value - low) / (high - low))))
            }
        }
        return Picture.image(Raster(width: width, height: height, pixels: pixels))
    }
}
