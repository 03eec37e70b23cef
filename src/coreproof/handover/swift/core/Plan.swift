// Plan: what coreproof wrote about the model, how it is fed, and what it answered; read from proof.json.

import Foundation

struct Plan: Decodable, Sendable {
    enum Kind: String, Decodable, Sendable { case classifier, image, detector, array }

    enum Colour: String, Decodable, Sendable {
        case rgb = "RGB", bgr = "BGR", gray = "GRAY", grayHalf = "GRAY_FLOAT16"
        var isGray: Bool { self == .gray || self == .grayHalf }
    }

    /// The input that is a picture. Geometry first, then numbers: value = (pixel * scale - mean) / std.
    struct Picture: Decodable, Sendable {
        let name: String
        let isImage: Bool
        let shape: [Int]
        let dtype: String
        let colour: Colour
        let width: Int
        let height: Int
        let squash: Bool
        let resizeTo: Int?
        let interpolation: String
        let tallFirst: Bool
        let scale: Float
        let mean: [Float]
        let std: [Float]
        let channelsLast: Bool
    }

    /// An input that is an array or a single number; every sample brings it.
    struct Values: Decodable, Sendable {
        enum Kind: String, Decodable, Sendable { case tensor, double, int64 }

        let name: String
        let kind: Kind
        let dtype: String
    }

    struct Output: Decodable, Sendable {
        let name: String
        let shape: [Int]
        let isImage: Bool
    }

    /// How a detector's outputs are read: rows of four numbers, and as many rows of scores.
    struct Boxes: Decodable, Sendable {
        let coordinates: String
        let scores: String
        let centred: Bool
        let pixels: Bool
        let background: Bool
    }

    /// What the proof runs on. A photo brings its file and the model's own view of it without loss, other samples their numbers.
    struct Sample: Decodable, Identifiable, Sendable {
        let name: String
        let file: String?
        let seen: String?
        let inputs: [String: SampleInput]
        let scores: String?
        let outputs: [String: String]
        var id: String { name }
    }

    struct SampleInput: Decodable, Sendable {
        let file: String
        let shape: [Int]
    }

    let title: String
    let model: String
    let modelFile: String
    let fingerprint: String
    let kind: Kind
    let picture: Picture?
    let values: [Values]
    let outputs: [Output]
    let boxes: Boxes?
    let scores: String?
    let probabilities: String?
    let softmax: Bool
    let labels: [String]
    let samples: [Sample]
    let engine: String
    let coreproof: String

    func label(_ index: Int) -> String {
        labels.indices.contains(index) ? labels[index] : "class \(index)"
    }

    static func load(_ file: String = "proof.json") throws -> Plan {
        try JSONDecoder().decode(Plan.self, from: Data(contentsOf: try resource(file)))
    }

    /// A bundled file. An Xcode project keeps it in the app, packages in bundles of their own, folders kept or flattened.
    static func resource(_ path: String) throws -> URL {
        let forms = [path, "Resources/\(path)", (path as NSString).lastPathComponent]
        for bundle in Resources.bundles {
            guard let main = bundle.resourceURL else { continue }
            let all = (try? FileManager.default.contentsOfDirectory(at: main, includingPropertiesForKeys: nil)) ?? []
            let roots = [main] + all.filter { $0.pathExtension == "bundle" }
            for place in roots.flatMap({ root in forms.map { root.appendingPathComponent($0) } })
            where FileManager.default.fileExists(atPath: place.path) { return place }
        }
        throw Failure("\(path) is missing. Make the project again with coreproof.")
    }
}

struct Failure: LocalizedError {
    let errorDescription: String?
    init(_ text: String) { errorDescription = text }
}
